package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/sandtest/go-sandtest/sandtest"
	"golang.org/x/sys/unix"
)

// signals are those sent to this process, to be handed on to the command. What
// comes before there is one waits for it.
type signals chan os.Signal

func watchSignals() signals {
	ch := make(signals, 64)
	signal.Notify(ch, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH)
	return ch
}

// pass begins to hand signals on. What the terminal sends goes to the whole
// foreground group, so the command has had it already.
func (ch signals) pass(p *sandtest.Process) {
	go func() {
		for sig := range ch {
			if !fromTerminal(sig) {
				_ = p.Signal(sig.(syscall.Signal)) // it may have ended
			}
		}
	}()
}

func (ch signals) stop() {
	signal.Stop(ch)
	close(ch)
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
