#!/bin/sh
# A package that goes takes the running service with it; an upgrade restarts it afterwards.
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl stop tierkeep.service || true
    systemctl disable --quiet tierkeep.service || true
fi
exit 0
