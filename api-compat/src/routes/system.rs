//! The daemon itself: `/_ping` and `/version`.
//!
//! Start reading at [`routes`].

use http::header::{CACHE_CONTROL, HeaderName, PRAGMA};
use http::{HeaderValue, Method, StatusCode};
use manager::api::membership::Standing;

use crate::convert;
use crate::extract::Call;
use crate::model::system::SystemVersion;
use crate::reply::{self, Outcome};
use crate::route::{BodyKind, Route, get, head};

/// The operations on the daemon.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        get("/_ping", ping)
            .about("SystemPing", "Says that the daemon is there, and which version of the API it speaks.")
            .gives_body(200, BodyKind::Text),
        head("/_ping", ping).about("SystemPingHead", "The same without a body.").gives_nothing(200),
        get("/version", version)
            .about("SystemVersion", "Tells the versions of the daemon and its parts.")
            .gives::<SystemVersion>(200),
    ]
}

async fn ping(call: Call) -> Outcome {
    const BUILDER_VERSION: HeaderName = HeaderName::from_static("builder-version");
    const SWARM: HeaderName = HeaderName::from_static("swarm");
    let body = if call.method == Method::HEAD { "" } else { "OK" };
    let mut reply = reply::text(StatusCode::OK, body);
    let swarm = match call.shared.state.cluster.membership.standing() {
        Standing::Inactive => "inactive",
        Standing::Pending => "pending",
        Standing::Error(_) => "error",
        Standing::Locked => "locked",
        Standing::Worker(_) => "active/worker",
        Standing::Manager(_) => "active/manager",
    };
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(BUILDER_VERSION, HeaderValue::from_static("2"));
    headers.insert(SWARM, HeaderValue::from_static(swarm));
    Ok(reply)
}

async fn version(call: Call) -> Outcome {
    let info = call.shared.state.node.system.info().await?;
    reply::json(&convert::system::version(&call.shared.state.daemon, &info))
}
