outpost_dir=$(mktemp -d) || exit 1
trap 'rm -rf "$outpost_dir"' EXIT
outpost_run() {
    sh -c "$2" </dev/null >"$outpost_dir/out" 2>"$outpost_dir/err"
    outpost_rc=$?
    printf 'answer %s %s %s %s\n' "$1" "$outpost_rc" \
        "$(wc -c <"$outpost_dir/out")" "$(wc -c <"$outpost_dir/err")"
    cat "$outpost_dir/out" "$outpost_dir/err"
}
