//go:build linux

package supervisor

// credentialsSet notes that a thread may have become somebody else: files are
// opened on its behalf, and who it is is read anew then. The calls run in the
// kernel.
func credentialsSet(*Sandbox) feature {
	f := feature{name: "credentials"}
	for _, name := range []string{"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups", "capset"} {
		f.calls = append(f.calls, call{name: name, notify: func(c *Call) Answer {
			c.thread.creds.Store(nil)
			return Continue()
		}})
	}
	return f
}
