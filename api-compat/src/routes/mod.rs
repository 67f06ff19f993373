//! Handlers, by noun. Each extracts, converts, calls one port and formats; the table beside them says what it takes.
//!
//! Start reading at [`all`].

pub(crate) mod containers;
pub(crate) mod exec;
pub(crate) mod system;

use crate::route::Route;

/// Every operation, by noun, in the order in which paths are matched.
pub(crate) fn all() -> Vec<(&'static str, Vec<Route>)> {
    vec![
        ("Container", containers::routes()),
        ("Exec", exec::routes()),
        ("Image", vec![containers::commit_route()]),
        ("System", system::routes()),
    ]
}
