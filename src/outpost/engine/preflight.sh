. /etc/os-release; echo "release $ID $VERSION_ID"
echo "clock $(date +%s)"
# of the machine, or what the control group (version 2 or 1) allows a container
echo "memory $(awk '/^MemTotal/ { print int($2 / 1024) } /^[0-9]/ { print int($1 / 1048576) }' /proc/meminfo \
  $(ls /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null) | sort -n | head -n 1)"
df -Pm / /usr /var /srv 2>/dev/null | awk 'NR > 1 && !seen[$6]++ { print "disk", $4, $6 }'
df -Pi / /usr /var /srv 2>/dev/null | awk 'NR > 1 && $2 > 0 && !seen[$6]++ { print "inodes", $4, $6 }'
# while dpkg works, some packages are always unfinished
lslocks --noheadings --output PATH | grep -q '^/var/lib/dpkg/lock' \
  || dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' | sed -En 's/^(.[HUFW].|..R)/unfinished /p' | sort -u
echo "user $(id -u)"
echo "shell $(getent passwd "${SUDO_USER:-root}" | cut -d: -f7)"
echo "init $(cat /proc/1/comm)"
for place in / /etc /usr /usr/local /var/lib/dpkg; do
  findmnt --noheadings --raw --output TARGET,OPTIONS --target $place 2>/dev/null | awk '{ print "mounted", $1, $2 }'
done | sort -u
echo "container $(systemd-detect-virt --container 2>/dev/null || true)"
ip -6 route show default 2>/dev/null | grep -q ' proto ra ' && ! ip -6 route show default | grep -vq ' proto ra ' && echo "advertised yes"
for address in $(ip -o addr show 2>/dev/null | awk '{ split($4, a, "/"); print a[1] }'); do echo "address $address"; done
ss -Hltunp 2>/dev/null | awk '{ n = split($5, a, ":"); program = $7; gsub(/^users:\(\("|".*$/, "", program); print "port", $1, a[n], program }'
nft list chains 2>/dev/null | awk '/^table / { table = $2 " " $3 } /hook (input|output|forward) .*policy drop/ && !seen[table]++ { print "filter", table }'
for process in /proc/[0-9]*; do  # dpkg takes a * or [ in a path for a pattern: such a path is not asked about
  [ "$(readlink "$process/root")" != / ] || readlink "$process/exe"
done 2>/dev/null | sed 's/ (deleted)$//' | grep '^/[^*?[\]*$' | sort -u | head -n 200 >"$work/programs"
tr '\n' '\0' <"$work/programs" | LC_ALL=C xargs -0 -r dpkg-query --search 2>&1 >/dev/null | sed -n 's/^dpkg-query: no path found matching pattern /program /p'
cat >"$work/ask" <<'END'
# the answer to a packet: ask FAMILY-PORT ADDRESS BYTES WANTED
exec 3<>"/dev/udp/$1/$2" || exit 1
printf "$3" >&3
timeout WAIT dd bs=512 count=1 <&3 2>/dev/null | od -An -v -tx1 -N12
END
sed -i "s/WAIT/$wait/" "$work/ask"
dns='\x4f\x50\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x00\x00\x06\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00'
ntp="\\x23$(printf '\\x00%.0s' $(seq 47))"
for test in $try_25; do
  ( timeout "$wait" bash -c "exec 3<>/dev/tcp/$test/25 && head -c3 <&3" 2>/dev/null | grep -q 220 && echo "outbound $test" ) &
done
for server in $resolvers; do
  ( set -- $(bash "$work/ask" "$server" 53 "$dns" 2>/dev/null); [ "$1$2" != 4f50 ] || echo "resolver $server $((0x$7$8))" ) &
done
for server in $clocks; do
  ( set -- $(bash "$work/ask" "$server" 123 "$ntp" 2>/dev/null); [ -z "$1" ] || echo "ntp $server" ) &
done
[ -n "$proxy" ] || { eval "$(apt-config shell own Acquire::http::Proxy)"; [ -z "$own" ] || echo "proxy $own"; }
number=0
for url in $urls; do
  number=$((number + 1))
  ( for try in 1 2 3 4; do
      output=$(LC_ALL=C timeout "$((wait * 2))" /usr/lib/apt/apt-helper -qq -o Acquire::Retries=0 -o Acquire::http::Timeout="$wait" -o Acquire::https::Timeout="$wait" \
        ${proxy:+-o "Acquire::http::Proxy=$proxy" -o "Acquire::https::Proxy=$proxy"} \
        download-file "$url/InRelease" "$work/$number" 2>&1) && echo "archive $url" && exit
      # apt-cacher-ng answers 503 where two hosts ask for the same index in the same second: they ask again, each at another time
      case $output in *"  5"??"  "*) sleep "$(shuf -i 1-4 -n 1)" ;; *) break ;; esac
    done
    echo "unfetched $url $(printf '%s\n' "$output" | sed -n '/^timeout: /{p;q};/^E: /{s/^E: Failed to fetch [^ ]* *//;p;q}')" ) &
done
wait
echo "asked yes"
