#!/bin/sh
# The service's user and who may read its settings. It is not started: it needs to be told where its databases are.
set -e
if [ "$1" = configure ]; then
    if ! getent passwd tierkeep >/dev/null; then
        adduser --system --group --quiet --home /var/lib/tierkeep --no-create-home tierkeep
    fi
    # Only at the first installation; later, an operator's choice stays.
    if [ -z "$2" ]; then
        chown root:tierkeep /etc/tierkeep/tierkeep.toml
        chmod 0640 /etc/tierkeep/tierkeep.toml
    fi
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload || true
        # An upgrade goes on with the new version, where the service ran.
        if [ -n "$2" ]; then
            systemctl try-restart tierkeep.service || true
        fi
    fi
fi
exit 0
