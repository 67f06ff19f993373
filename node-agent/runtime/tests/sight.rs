//! What a container sees, told by a script inside it, in a form that can be compared between runtimes.

use std::collections::BTreeMap;

/// Prints sections of facts; each begins with a line `== name`.
pub(crate) const SCRIPT: &str = r#"
echo "== status"; grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups|Umask|SigBlk)' /proc/self/status
echo "== ids"; id
echo "== descriptors"; ls /proc/self/fd | sort -n | tr '\n' ' '; echo
echo "== cwd"; pwd; readlink /proc/self/cwd
echo "== environment"; env | grep -v '^SHLVL=' | sort
echo "== limits"; cat /proc/self/limits
echo "== names"; hostname; cat /proc/sys/kernel/domainname
echo "== devices"; for f in /dev/*; do stat -c '%n %F %t:%T %a %u:%g' $f; done
echo "== links"; for f in /dev/*; do [ -L $f ] && echo "$f $(readlink $f)"; done
echo "== masks"; for f in /proc/kcore /proc/keys /proc/timer_list; do [ -e $f ] && echo "$f $(wc -c <$f 2>&1)"; done
ls -A /proc/acpi /sys/firmware 2>&1
echo "== protected"; for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/0/smp_affinity; do [ -e $f ] && (echo x >$f) 2>&1 | sed 's/.*: //'; done
echo "== root"; (touch /made) 2>&1 | sed 's/.*: //'; rm -f /made
echo "== mounts"; awk '{print $2, $3, $4}' /proc/mounts | sort
echo "== cgroup"; sed 's/run[0-9]*$/ID/' /proc/self/cgroup
echo "== score"; cat /proc/self/oom_score_adj
echo "== namespaces"; for n in mnt uts ipc net pid cgroup user; do [ "$(readlink /proc/self/ns/$n)" ] && echo $n; done
echo "== init"; echo $$
echo "== session"; awk '{print $6, $7}' /proc/1/stat
echo "== sysctl"; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax
echo "== nodes"; mknod /tmp/n c 1 3 2>&1 | sed 's/.*: //'; (cat /tmp/n) 2>&1 | sed 's/.*: //'; mknod /tmp/k c 1 2 2>&1 | sed 's/.*: //'; (head -c1 /tmp/k) 2>&1 | sed 's/.*: //'; rm -f /tmp/n /tmp/k
echo "== raw"; (mount -t tmpfs x /tmp) 2>&1 | sed 's/.*: //'; (unshare -U true) 2>&1 | sed 's/.*: //'
"#;

/// The facts by section.
pub(crate) fn parse(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut sections = BTreeMap::new();
    let mut current: Option<(String, Vec<String>)> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            sections.extend(current.replace((name.to_owned(), Vec::new())));
        } else if let Some((_, lines)) = &mut current {
            lines.push(line.trim_end().to_owned());
        }
    }
    sections.extend(current);
    sections
}
