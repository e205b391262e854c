export LC_ALL=C
. /etc/os-release; echo "release $ID $VERSION_ID"
echo "machine $(uname -m)"
[ -c /dev/kvm ] && grep -qE '^flags.* (vmx|svm)( |$)' /proc/cpuinfo && echo "kvm yes"
[ ! -c /dev/tpmrm0 ] || echo "tpm yes"
echo "memory $(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)"
echo "processors $(nproc)"
{ sshd -T 2>/dev/null | sed -n 's/^port //p'; echo "${SSH_CONNECTION##* }"; } | sort -u | sed 's/^/port /'
place=$directory; while [ ! -d "$place" ]; do place=$(dirname "$place"); done
echo "disk $(df -Pm "$place" | awk 'NR == 2 { print $4 }')"
[ ! -s $mark ] || echo "site $(head -c 300 $mark | head -n 1)"
for link in /sys/class/net/*; do master=$(readlink "$link/master"); echo "link ${link##*/} ${master##*/}"; done
ip -o addr show scope global | awk '{ print "address", $2 }'
for file in "$directory"/*; do [ ! -f "$file" ] || echo "file $(stat -c %s "$file") ${file##*/}"; done
[ "$(wc -l < /proc/swaps)" -lt 2 ] || echo "swap yes"
virsh="virsh --connect qemu:///system"
for name in $names; do
  if [ -f "$directory/$name.qcow2" ]; then
    about=$(qemu-img info --force-share --output json "$directory/$name.qcow2")
    echo "size $name $(echo "$about" | sed -n 's/^  *"virtual-size": \([0-9]*\).*/\1/p' | tail -n 1)"
    case $about in *'"encrypted": true'*) echo "encrypted $name" ;; esac
  fi
  command -v virsh >/dev/null && $virsh domuuid "$name" >/dev/null 2>&1 || continue
  echo "state $name $($virsh domstate "$name" | head -n 1)"
  for kind in '' --inactive; do echo "definition $name ${kind:---live} $($virsh dumpxml $kind "$name" | base64 --wrap=0)"; done
done
