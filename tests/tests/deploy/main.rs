//! What `deploy/` ships, run as it is shipped: each file at its path, as its user, on its port, on machines of a network of
//! the test's own. What only a real systemd, cluster or AWS would show is named in `tests/README.md`.

mod fleet;
mod kubernetes;
mod page;
mod recipes;
mod systemd;
mod two_instances;
