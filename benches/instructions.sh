#!/usr/bin/env bash
# Instructions a record, of one program run: `benches/instructions.sh PROGRAM`, where PROGRAM is
# `instructions.rs` compiled with its symbols. Fails when a figure lies more than 3 % above the one
# in `instructions.baseline`. BLESS=1 writes the figures there instead.
#
# The simulated processor has no SHA instructions and counts the same on every machine whose
# processor has AVX2; another compiler may count differently.
set -euo pipefail
cd "$(dirname "$0")"
program=$1
baseline=instructions.baseline
MOST_PERCENT=3

say() { printf '%s\n' "$*"; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
valgrind -q --tool=callgrind --callgrind-out-file="$scratch/callgrind" \
  --zero-before='*counting_begins*' "$program" >"$scratch/out"
records=$(sed -n 's/^records //p' "$scratch/out")
callgrind_annotate --inclusive=yes --threshold=100 "$scratch/callgrind" >"$scratch/annotated"

# figure NAME: instructions a record in the function measured_NAME and all that it calls.
figure() {
  awk -v name="measured_$1" -v records="$records" '
    index($0, name) && !found { gsub(",", "", $1); print int($1 / records); found = 1 }
    END { exit !found }' "$scratch/annotated"
}

compiler=$(rustc --version | cut -d' ' -f1,2)
{
  say "# Instructions a record; written by: BLESS=1 bash .ci/run instructions"
  say "compiler $compiler"
  for name in door intake drain hub; do
    figure=$(figure $name) || { say "no function measured_$name was run" >&2; exit 1; }
    say "$name $figure"
  done
} >"$scratch/figures"

if [ -n "${BLESS-}" ]; then
  cp "$scratch/figures" "$baseline"
  cat "$baseline"
  exit 0
fi
status=0
awk -v most="$MOST_PERCENT" '
  /^#/ { next }
  NR == FNR { base[$1] = $0; sub(/^[^ ]* /, "", base[$1]); next }
  $1 == "compiler" {
    if ($2 " " $3 != base["compiler"]) print "counted with " $2 " " $3 ", the baseline with " base["compiler"]
    next
  }
  {
    change = ($2 / base[$1] - 1) * 100
    verdict = change > most ? "TOO MANY" : change < -most ? "fewer: bless it" : "as before"
    printf "%-8s %8d instructions a record, baseline %8d, %+6.2f %%  %s\n", $1, $2, base[$1], change, verdict
    if (change > most) failed = 1
  }
  END { exit failed }' "$baseline" "$scratch/figures" || status=1
if [ $status -ne 0 ]; then
  say "More than $MOST_PERCENT % above benches/$baseline. If it has to be so: BLESS=1 bash .ci/run instructions"
fi
exit $status
