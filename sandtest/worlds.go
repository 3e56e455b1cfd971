package sandtest

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor"
)

// A world is what a command is run in when it is checked for what it depends on: the
// sandbox that the options describe, but for what is varied.
type world struct {
	varied []string // names of variations
	number int      // of the run, from 0
}

// A variation is one thing that a build must not depend on.
type variation struct {
	name    string
	summary string
	vary    func(*setting)
}

// A setting is a world being made.
type setting struct {
	number int
	opts   Options
	env    map[string]string
	cfg    *supervisor.Config // what isn't in opts
}

// otherTime differs from [supervisor.DefaultTime] in year, month, weekday and hour, and
// doesn't fit into 32 bits.
var otherTime = time.Date(2039, time.November, 23, 17, 41, 13, 0, time.UTC)

// otherWork is where the command sees its directory if that is varied.
const otherWork = "/var/tmp/another/build/path"

const otherHome = "/tmp/another-home"

var variations = []variation{
	{"time", "the clock: another year, month, weekday and hour, past 2038", func(w *setting) {
		if w.opts.Time = otherTime; w.number > 1 {
			w.opts.Time = otherTime.AddDate(-20*(w.number-1), w.number, w.number)
		}
	}},
	{"timezone", "TZ", func(w *setting) { w.env["TZ"] = "<+0545>-5:45" }},
	{"locale", "LANG and LC_ALL", func(w *setting) { w.env["LANG"], w.env["LC_ALL"] = otherLocale(), otherLocale() }},
	{"umask", "the permissions of new files: 027", func(w *setting) { w.cfg.Umask = 0o027 }},
	{"hostname", "the name of the machine", func(w *setting) { w.opts.Hostname = fmt.Sprintf("another-host-%d", w.number) }},
	{"kernel", "the kernel's release", func(w *setting) { w.cfg.Identity.Kernel = "5.10.0-28-another" }},
	{"cpus", "how many CPUs there are", func(w *setting) {
		// Where it runs is a matter of the schedule.
		if w.opts.CPUs = cmp.Or(w.opts.CPUs, 1); w.opts.CPUs == 1 {
			w.cfg.Spread = supervisor.SpreadOne
		}
		w.opts.CPUs += 2 + w.number
	}},
	{"memory", "how much memory there is", func(w *setting) { w.cfg.Identity.Memory = cmp.Or(w.opts.Memory, supervisor.DefaultMemory) / 4 * 3 }},
	{"fileorder", "the order in which directories are listed: reversed, then shuffled", func(w *setting) {
		if w.cfg.Order.Reversed = true; w.number > 1 {
			w.cfg.Order = det.Order{Shuffle: uint64(w.number)}
		}
	}},
	{"seed", "all random bytes", func(w *setting) { w.opts.Seed += 0x5eed + uint64(w.number) }},
	{"aslr", "the addresses of the program's memory", func(w *setting) { w.opts.ASLR = true }},
	{"pids", "process ids, where the sandbox has its own", func(w *setting) { w.cfg.FirstPID = 4217 + 1000*w.number }},
	{"environment", "HOME, USER, a longer PATH, one more variable", func(w *setting) {
		w.env["HOME"], w.env["USER"], w.env["LOGNAME"] = otherHome, "another", "another"
		w.env["PATH"] += ":/another/bin"
		w.env["ANOTHER_VARIABLE"] = "is set"
		w.cfg.Mounts = []cow.Mount{{At: otherHome, Mode: 0o777}}
	}},
	{"path", "the directory in which the command works", func(w *setting) { w.opts.Work = otherWork }},
	{"mtime", "when the files that are there were changed", func(w *setting) {
		w.cfg.Inputs = w.cfg.Inputs.AddDate(-2, -w.number, -9)
	}},
	{"inode", "the numbers of files (ls -i), and so the order of what sorts by them", func(w *setting) { w.cfg.Inodes = uint64(w.number) + 1 }},
	{"schedule", "whether processes take turns on one CPU, at what priority, and what else the machine does", func(w *setting) {
		w.cfg.Spread, w.opts.disturbance = supervisor.SpreadAll, uint64(w.number)+1
		// Worlds run side by side, and one on all CPUs would take half of the other one's.
		w.cfg.Nice = 10
	}},
	{"network", "whether there is one", func(w *setting) { w.opts.Net = NetNone }},
}

// Variations are the names of what [CheckReproducible] varies, with what each means.
func Variations() (list [][2]string) {
	for _, v := range variations {
		list = append(list, [2]string{v.name, v.summary})
	}
	return list
}

// allVariations are all names.
func allVariations() (list []string) {
	for _, v := range variations {
		list = append(list, v.name)
	}
	return list
}

// ParseVariations reads a list such as "time,path" or "all,-umask". Empty means all.
func ParseVariations(s string) (list []string, err error) {
	all := allVariations()
	for _, name := range strings.Split(s, ",") {
		name = strings.TrimSpace(name)
		bare, minus := strings.CutPrefix(name, "-")
		switch {
		case name == "":
		case name == "all":
			list = slices.Clone(all)
		case !slices.Contains(all, bare):
			return nil, fmt.Errorf("unknown variation %q: want all, or some of %s", bare, strings.Join(all, ", "))
		case minus:
			if list == nil {
				list = slices.Clone(all)
			}
			list = slices.DeleteFunc(list, func(s string) bool { return s == bare })
		case !slices.Contains(list, bare):
			list = append(list, bare)
		}
	}
	if s == "" {
		list = all
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("nothing is left to vary in %q", s)
	}
	return list, nil
}

// locales are tried for the one that differs from C.UTF-8.
var locales = []string{"de_DE.utf8", "de_DE.UTF-8", "fr_FR.utf8", "en_US.utf8", "en_US.UTF-8", "en_GB.utf8"}

// otherLocale is a locale with another order of letters, if this machine has one.
func otherLocale() string {
	have, err := exec.Command("locale", "-a").Output()
	if err == nil {
		for _, l := range locales {
			if slices.Contains(strings.Fields(string(have)), l) {
				return l
			}
		}
	}
	return "C"
}

// in returns a fresh command and the options to run it with in a world.
func (c *checkedCommand) in(w world) (*exec.Cmd, Options) {
	cmd := c.clone()
	set := &setting{number: w.number, opts: c.opts, env: map[string]string{}, cfg: &supervisor.Config{}}
	// What the files that are there read as isn't a matter of the clock.
	set.cfg.Inputs = c.opts.Time
	if set.cfg.Inputs.IsZero() {
		set.cfg.Inputs = supervisor.DefaultTime
	}
	for _, kv := range cmd.Env {
		name, value, _ := strings.Cut(kv, "=")
		set.env[name] = value
	}
	before := maps.Clone(set.env)
	for _, v := range variations {
		if slices.Contains(w.varied, v.name) {
			v.vary(set)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(set.env)) {
		if value := set.env[name]; before[name] != value {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	vary := *set.cfg
	set.opts.adjust = func(cfg *supervisor.Config) {
		cfg.Umask, cfg.Order, cfg.Inputs, cfg.Spread = vary.Umask, vary.Order, vary.Inputs, vary.Spread
		cfg.FirstPID, cfg.Inodes, cfg.Nice = vary.FirstPID, vary.Inodes, vary.Nice
		cfg.Identity.Kernel = vary.Identity.Kernel
		cfg.Identity.Memory = cmp.Or(vary.Identity.Memory, cfg.Identity.Memory)
		cfg.Mounts = append(cfg.Mounts, vary.Mounts...)
	}
	return cmd, set.opts
}

// disturb keeps a CPU busy for moments, which the seed chooses, until the function that it
// returns is called: a quarter of the time at first, and less the longer it takes. With seed
// 0 it does nothing.
func disturb(seed uint64) (end func()) {
	if seed == 0 {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		rnd := rand.New(rand.NewPCG(seed, 0))
		moment := func() time.Duration { return time.Duration(rnd.IntN(2000)) * time.Microsecond }
		for began := time.Now(); ; {
			for until := time.Now().Add(moment()); time.Now().Before(until); {
			}
			select {
			case <-done:
				return
			case <-time.After(time.Duration((3 + 8*time.Since(began).Seconds()) * float64(moment()))):
			}
		}
	}()
	return func() { close(done) }
}
