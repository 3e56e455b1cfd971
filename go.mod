module github.com/sandtest/go-sandtest

go 1.26.0

require (
	github.com/docker/go-units v0.5.0
	github.com/google/go-cmp v0.7.0
	golang.org/x/net v0.62.0
	golang.org/x/sys v0.49.0
)

require (
	golang.org/x/arch v0.32.0
	golang.org/x/tools v0.26.0
)

require github.com/rogpeppe/go-internal v1.16.0

require (
	github.com/landlock-lsm/go-landlock v0.11.0
	kernel.org/pub/linux/libs/security/libcap/psx v1.2.77 // indirect
)
