#!/usr/bin/env bash
# Instructions a record on two processors, and what they would take on a small ARM board:
# `benches/instructions_arm.sh PROGRAM ARM_PROGRAM`, both compiled from `instructions.rs`.
#
# QEMU executes both and a plugin counts, so both are counted in the same way. It simulates no SHA
# instructions for x86-64, but does for ARM. Many boards' processors have none, so ARM is run a
# second time with a C library that denies them.
set -euo pipefail
cd "$(dirname "$0")"
# A Cortex-A53 at 1.2 GHz, and the instructions that it completes in a cycle in code of this kind.
MHZ=1200
PER_CYCLE='0.6 0.8'
BATCH=1000

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
gcc -O2 -Wall -shared -fPIC -o "$scratch/count.so" instructions_plugin.c

# count NAME QEMU...: one line a phase, its name and the instructions a record, into $scratch/NAME.
count() {
  local name=$1
  shift
  "$@" >"$scratch/out" 2>"$scratch/executed"
  awk '
    FNR == NR && $1 == "records" { records = $2 }
    FNR == NR && $1 == "order" { for (i = 2; i <= NF; i++) order[i - 2] = $i; phases = NF - 1 }
    FNR == NR { next }
    $1 == "executed" { at[marks++] = $2 }
    END {
      # What was done before the counting began comes first.
      first = marks - 2 * phases
      for (i = 0; i < phases; i++) sum[order[i]] += at[first + 2 * i + 1] - at[first + 2 * i]
      split("door intake drain hub", names)
      for (i = 1; i <= 4; i++) print names[i], int(sum[names[i]] / records)
    }' "$scratch/out" "$scratch/executed" >"$scratch/$name"
}

cat >"$scratch/deny.c" <<'DENY'
#include <dlfcn.h>
/* AES, PMULL, SHA1, SHA2 of the processor's features (HWCAP, entry 16). */
unsigned long getauxval(unsigned long entry) {
  unsigned long (*real)(unsigned long) = (unsigned long (*)(unsigned long))dlsym(RTLD_NEXT, "getauxval");
  return entry == 16 ? real(entry) & ~(15ul << 3) : real(entry);
}
DENY
aarch64-linux-gnu-gcc -D_GNU_SOURCE -O2 -Wall -shared -fPIC -o "$scratch/deny.so" "$scratch/deny.c"

arm=(qemu-aarch64 -L /usr/aarch64-linux-gnu -plugin "$scratch/count.so")
count x86 qemu-x86_64 -cpu max -plugin "$scratch/count.so" "$1"
count sha "${arm[@]}" -cpu cortex-a53 "$2"
count plain "${arm[@]}" -cpu cortex-a53 -E "LD_PRELOAD=$scratch/deny.so" "$2"

echo "| instructions a record | x86-64 | ARM64 without SHA instructions | ratio | ARM64 with | estimate: ms for $BATCH records on a Cortex-A53 at $MHZ MHz, without and with |"
echo "|---|---|---|---|---|---|"
paste -d' ' "$scratch/x86" "$scratch/plain" "$scratch/sha" |
  awk -v mhz="$MHZ" -v per_cycle="$PER_CYCLE" -v batch="$BATCH" '
    function range(count, rate) {
      split(per_cycle, rate, " ")
      count *= batch / mhz / 1e3
      return sprintf("%.0f to %.0f", count / rate[2], count / rate[1])
    }
    { printf "| %s | %d | %d | %.2f | %d | %s; %s |\n", $1, $2, $4, $4 / $2, $6, range($4), range($6) }'
