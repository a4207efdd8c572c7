#!/bin/sh
# Compares the CONTENTS list at the top of awq.h with the anchors below ("MARK: " and ">>name"): same names, same order.
# Run from anywhere; exit 1 and the difference when they are out of step.
cd "$(dirname "$0")/.." || exit 1
status=0
for header in awq*.h; do
    [ -f "$header" ] || continue
    listed=$(awk '/^ *CONTENTS/ { on = 1; next } on && NF == 0 { exit } on && $1 ~ /^>>/ { print substr($1, 3) }' "$header")
    marked=$(sed -n 's/^[ /*]*MARK: >>\([a-z0-9_]*\)[ */]*$/\1/p' "$header")
    if [ -z "$listed" ]; then
        echo "$header: no CONTENTS list"
        status=1
    elif [ "$listed" != "$marked" ]; then
        echo "$header: CONTENTS and MARK anchors differ"
        echo "  listed:" $listed
        echo "  marked:" $marked
        status=1
    else
        echo "$header: CONTENTS and $(echo "$marked" | wc -l | tr -d ' ') anchors agree"
    fi
done
exit $status
