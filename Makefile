# Two commands for newcomers: `make run` and `make test`. Everything else is `cargo xtask help`.

.PHONY: run test stop uninstall check

run:
	@cargo xtask start

stop:
	@cargo xtask stop

test:
	@cargo xtask test all

check:
	@cargo xtask check

uninstall:
	@cargo xtask uninstall
