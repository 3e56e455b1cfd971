package main

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// passSignals hands on to the command what is sent to this process. What the
// terminal sends goes to the whole foreground group, so the command has had it
// already.
func passSignals(cmd *exec.Cmd) (stop func()) {
	ch := make(chan os.Signal, 16)
	signal.Notify(ch, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH)
	go func() {
		for sig := range ch {
			if p := cmd.Process; p != nil && !fromTerminal(sig) {
				_ = p.Signal(sig) // it may have ended
			}
		}
	}()
	return func() {
		signal.Stop(ch)
		close(ch)
	}
}

// fromTerminal guesses whether the terminal has sent a signal: one that a key or
// a change of its size sends, while this process is in the terminal's foreground.
func fromTerminal(sig os.Signal) bool {
	switch sig {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGWINCH, unix.SIGHUP:
	default:
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

func signalName(sig syscall.Signal) string {
	if sig == 0 {
		return ""
	}
	return unix.SignalName(sig)
}
