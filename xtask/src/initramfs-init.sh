#!/bin/busybox sh
# The first program of a development device: says that user space was reached, then does what the (signed)
# kernel command line asks for: kiln.then=shell (the default), poweroff, reboot or hotplug.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root ENV=/etc/profile
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
echo 1 > /proc/sys/kernel/printk

online() { grep -c '^processor' /proc/cpuinfo; }

echo "KILN-USERSPACE kernel=$(uname -r) cpus=$(online) token=$(cat /etc/kiln-token)"

then=shell
for word in $(cat /proc/cmdline); do
    case "$word" in kiln.then=*) then="${word#kiln.then=}" ;; esac
done

case "$then" in
hotplug)
    echo 0 > /sys/devices/system/cpu/cpu1/online
    offline=$(online)
    echo 1 > /sys/devices/system/cpu/cpu1/online
    echo "KILN-HOTPLUG offline=$offline online=$(online)"
    poweroff -f
    ;;
poweroff) poweroff -f ;;
reboot) reboot -f ;;
*)
    echo
    echo "Linux $(uname -r), booted by Kiln. \`poweroff\` ends it; Ctrl-A X leaves the emulator at any time."
    cd /root
    setsid cttyhack sh
    poweroff -f
    ;;
esac
