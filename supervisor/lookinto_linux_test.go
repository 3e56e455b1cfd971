package supervisor

import (
	"os"
	"os/exec"
	"testing"
)

// look tells what somebody may see of process $p.
const look = `for f in environ auxv mem maps smaps io fd/0 fdinfo/0 status comm; do (exec 3</proc/$p/$f) 2>/dev/null && echo $f || echo no $f; done
for l in exe cwd root fd/0 ns/pid; do readlink /proc/$p/$l >/dev/null && echo $l || echo no $l; done
for l in exe cwd/. root/. fd/0; do test -r /proc/$p/$l && echo $l || echo no $l; done
for d in fd fdinfo; do ls /proc/$p/$d >/dev/null 2>&1 && echo $d || echo no $d; done
(exec 3>/proc/$p/oom_score_adj) 2>/dev/null && echo adjusts || echo no oom_score_adj`

// Who looks into a process by /proc sees what he would without a sandbox.
func TestLookInto(t *testing.T) {
	scripts := map[string]string{"one's own": `sleep 1000 & p=$!; until read name </proc/$p/comm && test $name = sleep; do :; done; ` + look + `; kill $p`}
	if exec.Command("perl", "-e", "1").Run() == nil { // PR_SET_DUMPABLE
		scripts["one that doesn't want it"] = `mkfifo said; perl -e '$| = 1; syscall(157, 4, 0); print "ready\n"; sleep 1000' >said & p=$!; read line <said; ` + look + `; kill $p`
	}
	if _, err := exec.LookPath("setpriv"); err == nil && os.Geteuid() == 0 {
		start := `setpriv --reuid=1234 --regid=1234 --clear-groups sleep 1000 & p=$!; export p; until read name </proc/$p/comm && test $name = sleep; do :; done; `
		scripts["root, of another user's"] = start + look + `; kill $p`
		scripts["another user's"] = start + `setpriv --reuid=4321 --regid=4321 --clear-groups sh -c '` + look + `'; kill $p`
		scripts["root's"] = `sleep 1000 & p=$!; export p; setpriv --reuid=4321 --regid=4321 --clear-groups sh -c '` + look + `'; kill $p`
		scripts["of who has become another"] = `mkfifo said; chmod 666 said; perl -e '$| = 1; $( = $) = "1234 1234"; $< = $> = 1234; print "ready\n"; sleep 1000' >said & p=$!; export p; read line <said; setpriv --reuid=1234 --regid=1234 --clear-groups sh -c '` + look + `'; kill $p`
	}
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			sameAsBare(t, Config{}, func() *exec.Cmd {
				cmd := sh(script)
				cmd.Dir = t.TempDir()
				return cmd
			})
		})
	}
}
