#!/bin/sh
# Data in /var/lib/tierkeep and secrets in /etc/tierkeep/credentials are never removed: they are not the package's. Nor is the user, who owns them.
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
exit 0
