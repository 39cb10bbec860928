# Runs in the test host: a thecad with figures for Prometheus, then each folder of tests over the stubs of each endpoint. Arguments are unittest's.
exec 2>&1
log=/var/log/thecad.log
export THECAD_METRICS=127.0.0.1:9464
thecad --metrics "$THECAD_METRICS" 2>"$log" &
daemon=$!
until [ -S /run/theca/thecad.sock ] && [ -S /run/theca/thecad-2022.sock ]; do
    kill -0 "$daemon" || { cat "$log"; exit 1; }
    sleep 0.1
done

code=0
for tests in /opt/client/tests/*; do
    for endpoint in today generations; do
        echo "== ${tests##*/}, stubs of $endpoint"
        PYTHONPATH=/opt/client/site:/opt/client/stubs/$endpoint:/opt/client \
            python3 -B -m unittest discover -s "$tests" "$@"
        case $? in
            0) ;;
            # None is called so, of those that run over these stubs.
            5) [ $# -gt 0 ] || code=1 ;;
            *) code=1 ;;
        esac
    done
done

# Tests may have killed it and started another one.
pkill -TERM -x thecad
wait
[ "$code" = 0 ] || { echo "== the end of thecad's log"; tail -n 60 "$log"; }
exit "$code"
