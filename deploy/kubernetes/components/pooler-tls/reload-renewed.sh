#!/bin/sh
# The pooler's liveness probe. PgBouncer reads its certificate when it starts and when it gets SIGHUP; the kubelet comes by
# twice a minute, so a certificate that was renewed is in use half a minute after it has reached the pod.
#
# reload-renewed.sh VOLUME SEEN PID
#   VOLUME  the certificate's: `..data` in it is a link to another folder whenever the kubelet has replaced the files
#   SEEN    where that folder's name is kept, for the next look
#   PID     PgBouncer
#
# Only when something is new: a reload makes PgBouncer open all connections to a PostgreSQL with TLS anew.
set -eu
volume=$1
seen=$2
pid=$3

# Before the signal: what is replaced after this line differs from it at the next look, so PgBouncer reads once more.
now=$(readlink "$volume/..data")
if [ "$now" != "$(cat "$seen" 2>/dev/null)" ]; then
    kill -HUP "$pid"
    # After it: what could not be signalled is tried again. A probe that fails six times has PgBouncer started anew, and
    # that reads the files too.
    echo "$now" >"$seen"
fi
