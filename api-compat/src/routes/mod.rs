//! Handlers, by noun. Each extracts, converts, calls one port and formats; the table beside them says what it takes.
//!
//! Start reading at [`all`].

pub(crate) mod containers;
mod exec;
mod images;
mod networks;
mod refused;
mod swarm;
mod system;
mod volumes;

use crate::route::Route;

/// Every operation, by noun.
pub(crate) fn all() -> Vec<Route> {
    let mut nouns = vec![
        ("Container", containers::checkpoints::routes()),
        ("Container", containers::routes()),
        ("Exec", exec::routes()),
        ("Image", images::build_routes()),
        ("Image", refused::build_cache_routes()),
        ("Image", images::routes()),
        ("Distribution", images::distribution_routes()),
        ("Network", networks::routes()),
        ("Volume", volumes::routes()),
        ("System", system::routes()),
        ("System", refused::debug_routes()),
        ("Session", refused::session_routes()),
        ("Plugin", refused::plugin_routes()),
    ];
    nouns.extend(swarm::routes());
    let tagged =
        |(noun, routes): (&'static str, Vec<Route>)| routes.into_iter().map(move |route| route.tagged(noun));
    nouns.into_iter().flat_map(tagged).collect()
}
