//go:build linux

package supervisor

import (
	"strings"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/det"
)

// What /proc/sys holds.
//
// Source: the host's settings, and which of them its kernel has. Eliminated: there are
// those that programs look up, with the values that a kernel has by default, and no others.
// Nobody can change one (EACCES, for root EROFS).
//
// What remains: where a setting is a limit that the kernel keeps, such as that of watched
// files or of message queues, it is the host's that is kept.

// settingsText are the settings that say the same everywhere, by directory.
const settingsText = `
dev/tty:
	ldisc_autoload 1
fs:
	aio-max-nr 65536
	aio-nr 0
	dentry-state 0	0	45	0	0	0
	dir-notify-enable 1
	file-max 9223372036854775807
	file-nr 0	0	9223372036854775807
	inode-nr 0	0
	inode-state 0	0	0	0	0	0	0
	lease-break-time 45
	leases-enable 1
	mount-max 100000
	nr_open 1048576
	overflowgid 65534
	overflowuid 65534
	pipe-max-size 1048576
	pipe-user-pages-hard 0
	pipe-user-pages-soft 16384
	protected_fifos 1
	protected_hardlinks 1
	protected_regular 2
	protected_symlinks 1
	suid_dumpable 0
fs/epoll:
	max_user_watches 905969
fs/inotify:
	max_queued_events 16384
	max_user_instances 128
	max_user_watches 65536
fs/mqueue:
	msg_default 10
	msg_max 10
	msgsize_default 8192
	msgsize_max 8192
	queues_max 256
kernel:
	acct 4	2	30
	cap_last_cap 40
	core_pattern core
	core_pipe_limit 0
	core_uses_pid 0
	ctrl-alt-del 0
	dmesg_restrict 0
	hung_task_timeout_secs 120
	io_delay_type 0
	kptr_restrict 0
	max_lock_depth 1024
	msgmax 8192
	msgmnb 16384
	msgmni 32000
	ngroups_max 65536
	nmi_watchdog 0
	numa_balancing 0
	ostype Linux
	overflowgid 65534
	overflowuid 65534
	panic 0
	panic_on_oops 0
	panic_on_warn 0
	perf_cpu_time_max_percent 25
	perf_event_max_sample_rate 100000
	perf_event_max_stack 127
	perf_event_mlock_kb 516
	perf_event_paranoid 2
	pid_max 4194304
	print-fatal-signals 0
	printk 4	4	1	7
	printk_delay 0
	printk_ratelimit 5
	printk_ratelimit_burst 10
	randomize_va_space 2
	sched_autogroup_enabled 1
	sched_rr_timeslice_ms 100
	sched_rt_period_us 1000000
	sched_rt_runtime_us 950000
	sem 32000	1024000000	500	32000
	shm_rmid_forced 0
	shmall 18446744073692774399
	shmmax 18446744073692774399
	shmmni 4096
	softlockup_panic 0
	sysctl_writes_strict 1
	tainted 0
	threads-max 31431
	timer_migration 1
	unprivileged_bpf_disabled 2
	watchdog 1
	watchdog_thresh 10
kernel/pty:
	max 4096
	nr 0
	reserve 1024
kernel/random:
	entropy_avail 256
	poolsize 256
	urandom_min_reseed_secs 60
	write_wakeup_threshold 256
kernel/seccomp:
	actions_avail kill_process kill_thread trap errno user_notif trace log allow
	actions_logged kill_process kill_thread trap errno user_notif trace log
net/core:
	busy_poll 0
	busy_read 0
	default_qdisc pfifo_fast
	dev_weight 64
	message_burst 10
	message_cost 5
	netdev_budget 300
	netdev_max_backlog 1000
	optmem_max 20480
	rmem_default 212992
	rmem_max 212992
	rps_sock_flow_entries 0
	somaxconn 4096
	warnings 0
	wmem_default 212992
	wmem_max 212992
net/ipv4:
	icmp_echo_ignore_all 0
	icmp_echo_ignore_broadcasts 1
	ip_default_ttl 64
	ip_dynaddr 0
	ip_early_demux 1
	ip_forward 0
	ip_local_port_range 32768	60999
	ip_local_reserved_ports 
	ip_no_pmtu_disc 0
	ip_nonlocal_bind 0
	ip_unprivileged_port_start 1024
	ping_group_range 1	0
	tcp_abort_on_overflow 0
	tcp_allowed_congestion_control reno cubic
	tcp_available_congestion_control reno cubic
	tcp_base_mss 1024
	tcp_congestion_control cubic
	tcp_ecn 2
	tcp_fastopen 1
	tcp_fin_timeout 60
	tcp_keepalive_intvl 75
	tcp_keepalive_probes 9
	tcp_keepalive_time 7200
	tcp_max_orphans 16384
	tcp_max_syn_backlog 256
	tcp_max_tw_buckets 16384
	tcp_mem 46107	61477	92214
	tcp_moderate_rcvbuf 1
	tcp_mtu_probing 0
	tcp_no_metrics_save 0
	tcp_notsent_lowat 4294967295
	tcp_orphan_retries 0
	tcp_reordering 3
	tcp_retries1 3
	tcp_retries2 15
	tcp_rfc1337 0
	tcp_rmem 4096	131072	6291456
	tcp_sack 1
	tcp_slow_start_after_idle 1
	tcp_syn_retries 6
	tcp_synack_retries 5
	tcp_syncookies 1
	tcp_timestamps 1
	tcp_tw_reuse 2
	tcp_window_scaling 1
	tcp_wmem 4096	16384	4194304
	udp_mem 92217	122958	184434
	udp_rmem_min 4096
	udp_wmem_min 4096
net/ipv4/conf/all net/ipv4/conf/default net/ipv4/conf/lo:
	accept_local 0
	accept_redirects 1
	accept_source_route 0
	arp_announce 0
	arp_ignore 0
	forwarding 0
	log_martians 0
	mc_forwarding 0
	proxy_arp 0
	route_localnet 0
	rp_filter 0
	secure_redirects 1
	send_redirects 1
net/ipv6:
	bindv6only 0
	ip_nonlocal_bind 0
net/ipv6/conf/all net/ipv6/conf/default net/ipv6/conf/lo:
	accept_ra 1
	accept_redirects 1
	autoconf 1
	disable_ipv6 0
	forwarding 0
	hop_limit 64
	mtu 65536
	use_tempaddr 0
net/unix:
	max_dgram_qlen 10
user:
	max_cgroup_namespaces 0
	max_ipc_namespaces 0
	max_mnt_namespaces 0
	max_net_namespaces 0
	max_pid_namespaces 0
	max_time_namespaces 0
	max_user_namespaces 0
	max_uts_namespaces 0
vm:
	admin_reserve_kbytes 8192
	compaction_proactiveness 20
	dirty_background_bytes 0
	dirty_background_ratio 10
	dirty_bytes 0
	dirty_expire_centisecs 3000
	dirty_ratio 20
	dirty_writeback_centisecs 500
	dirtytime_expire_seconds 43200
	extfrag_threshold 500
	laptop_mode 0
	legacy_va_layout 0
	max_map_count 65530
	min_free_kbytes 8192
	mmap_min_addr 65536
	nr_hugepages 0
	nr_overcommit_hugepages 0
	oom_dump_tasks 1
	oom_kill_allocating_task 0
	overcommit_kbytes 0
	overcommit_memory 0
	overcommit_ratio 50
	page-cluster 3
	panic_on_oom 0
	stat_interval 1
	swappiness 60
	unprivileged_userfaultfd 0
	user_reserve_kbytes 131072
	vfs_cache_pressure 100
	watermark_boost_factor 15000
	watermark_scale_factor 10
	zone_reclaim_mode 0
`

// procSys is where settings are.
const procSys = "/proc/sys"

// settings is what stands at a path in /proc/sys.
var settings = makeSettings()

func makeSettings() map[string]func(*Call) string {
	all := map[string]func(*Call) string{
		"/proc/sys/kernel/hostname":       func(c *Call) string { return c.s.cfg.Identity.Hostname + "\n" },
		"/proc/sys/kernel/domainname":     func(*Call) string { return "(none)\n" },
		"/proc/sys/kernel/osrelease":      func(c *Call) string { return c.s.cfg.Identity.Release() + "\n" },
		"/proc/sys/kernel/version":        func(*Call) string { return det.KernelVersion + "\n" },
		"/proc/sys/kernel/random/boot_id": bootID,
		"/proc/sys/kernel/random/uuid":    freshUUID,
	}
	var dirs []string
	for line := range strings.Lines(settingsText) {
		line = strings.TrimSuffix(line, "\n")
		if list, ok := strings.CutSuffix(line, ":"); ok {
			dirs = strings.Fields(list)
			continue
		}
		name, value, _ := strings.Cut(strings.TrimPrefix(line, "\t"), " ")
		for _, dir := range dirs {
			if name != "" {
				all[procSys+"/"+dir+"/"+name] = func(*Call) string { return value + "\n" }
			}
		}
	}
	return all
}

// settingsTemplate is what /proc/sys is in every sandbox.
var settingsTemplate = makeSettingsTemplate()

func makeSettingsTemplate() *cow.Template {
	top := templateOf(procSys, settings, 0o644)
	for _, path := range strings.Fields(onlyTold) {
		dir, name := cutLast(path, "/")
		top.Dir(dir).Entries[name].Mode = 0o444
	}
	return top
}

// onlyTold are those that nobody can set.
const onlyTold = `
	fs/aio-nr fs/dentry-state fs/file-nr fs/inode-nr fs/inode-state
	kernel/cap_last_cap kernel/ngroups_max kernel/osrelease kernel/ostype kernel/pty/nr kernel/seccomp/actions_avail kernel/version
	kernel/random/boot_id kernel/random/entropy_avail kernel/random/poolsize kernel/random/uuid
	net/ipv4/conf/all/mc_forwarding net/ipv4/conf/default/mc_forwarding net/ipv4/conf/lo/mc_forwarding
	net/ipv4/tcp_available_congestion_control`

// templateOf makes a template of the files that have a text, of a mode.
func templateOf[F any](root string, texts map[string]F, mode uint32) *cow.Template {
	top := cow.Directory()
	for path := range texts {
		dir, name := cutLast(path, "/")
		top.Dir(strings.TrimPrefix(dir, root+"/")).Entries[name] = &cow.Template{Mode: mode}
	}
	return top
}
