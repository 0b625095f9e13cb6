#!/usr/bin/env bash
# Measure on a machine that has a GPU, torch and transformers, but no network and not all libraries of embedx.
#
#   bash benchmarks/gpu_machine.sh prepare                       here: put the missing wheels into .whl (2 MiB)
#   bash benchmarks/gpu_machine.sh run [probe] [tests] [bench]   there, with .whl beside the code; default: all three
#
# `run` never stops at a step that fails or takes too long: every step has a limit in seconds and a log in $OUT, and all
# of them together end after ALL_S. DEVICE=cpu goes through every step without a GPU, with limits that are 6 times as long.
set -uo pipefail
cd "$(dirname "$0")/.."
DEVICE=${DEVICE:-cuda}
slower=$([ "$DEVICE" = cpu ] && echo 6 || echo 1)
PROBE_S=${PROBE_S:-$((110 * slower))} TESTS_S=${TESTS_S:-$((140 * slower))}
BENCH_S=${BENCH_S:-$((330 * slower))} ALL_S=${ALL_S:-$((570 * slower))}
PYTHON=${PYTHON:-python3} PYTHON_VERSION=${PYTHON_VERSION:-3.12}
OUT=${OUT:-build/gpu}

prepare() {
    local exclude wheels=(soundfile soxr cffi pycparser) name line
    exclude=$(git rev-parse --git-path info/exclude)
    grep -qxF /.whl/ "$exclude" 2>/dev/null || echo /.whl/ >>"$exclude" # git must not see the folder
    rm -rf .whl
    for name in "${wheels[@]}"; do
        line=$(grep -E "^$name==[^;]*$" constraints.txt | head -1) # the tested version, if there is one
        "$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --python-version "$PYTHON_VERSION" \
            --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
            -d .whl "${line:-$name}" || exit 1
    done
    du -sh .whl
    echo "There: bash benchmarks/gpu_machine.sh run probe tests (limit 300 s), then run bench (limit 380 s)."
}

step() { # name, seconds, command...
    local name=$1 limit=$2 code begun=$SECONDS
    shift 2
    limit=$((limit < ALL_S - SECONDS ? limit : ALL_S - SECONDS))
    if [ "$limit" -lt 10 ]; then
        echo "== $name: not begun, no time was left"
        return
    fi
    timeout --signal=INT --kill-after=8 "$limit" "$@" >"$OUT/$name.log" 2>&1
    code=$?
    [ $code -ge 124 ] && echo "== $name: stopped after $limit s" && return
    echo "== $name: exit code $code after $((SECONDS - begun)) s"
}

run() {
    local site small=() steps=" ${*:-probe tests bench} "
    mkdir -p "$OUT"
    site=$(mktemp -d)
    if ! "$PYTHON" -c "import soundfile, soxr" 2>/dev/null; then
        "$PYTHON" -m pip install --quiet --no-index --no-deps --target "$site" .whl/*.whl >"$OUT/install.log" 2>&1 ||
            tail -5 "$OUT/install.log"
    fi
    mkdir -p "$site/embedx-0.1.0.dist-info" # embedx is not installed there, but asks for its version
    printf 'Metadata-Version: 2.1\nName: embedx\nVersion: 0.1.0\n' >"$site/embedx-0.1.0.dist-info/METADATA"
    export PYTHONPATH="$PWD:$site${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
    {
        nvidia-smi || true
        nproc
        "$PYTHON" -c 'import sys, torch, transformers as t; print(sys.version, torch.__version__, t.__version__)'
    } >"$OUT/versions.log" 2>&1
    tail -1 "$OUT/versions.log"
    [ "$DEVICE" = cpu ] && small=(--small)
    if [[ $steps == *" probe "* ]]; then
        step probe "$PROBE_S" "$PYTHON" benchmarks/gpu_probe.py --device "$DEVICE" "${small[@]}"
        grep -E "^\[|^      |FAILED|Error" "$OUT/probe.log" | cut -c1-190 | tail -90
    fi
    if [[ $steps == *" tests "* ]]; then
        step tests "$TESTS_S" "$PYTHON" -m pytest tests/embedding/test_gpu.py -v --tb=short -p no:cacheprovider \
            -o addopts=--strict-markers -o filterwarnings=default -m "not long"
        grep -E "^(FAILED|ERROR|E  )|passed|failed" "$OUT/tests.log" | cut -c1-200 | tail -30
    fi
    if [[ $steps == *" bench "* ]]; then
        if [ "$DEVICE" = cpu ]; then small+=(--seconds 0.05 --files 300 --slower 20); else small+=(--seconds 1.5 --files 6000); fi
        step bench "$BENCH_S" "$PYTHON" benchmarks/gpu.py --out "$OUT/bench.md" --device "$DEVICE" --total $((BENCH_S - 15)) "${small[@]}"
        [ -s "$OUT/bench.md" ] && grep -v '^$' "$OUT/bench.md" | cut -c1-150 | tail -80
    fi
    echo "Logs: $OUT"
}

case ${1:-} in
    prepare) prepare ;;
    run) run "${@:2}" ;;
    *) sed -n 2,8p "$0" >&2 && exit 2 ;;
esac
