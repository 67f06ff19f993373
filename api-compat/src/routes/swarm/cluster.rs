//! Joining and leaving the cluster, and its settings.
//!
//! Start reading at [`routes`].

use http::{HeaderValue, StatusCode};
use manager::api::membership::{LeaveForce, Rotation};

use super::{managers, seen_version, strict_truth};
use crate::extract::Call;
use crate::model::cluster::{Swarm, SwarmInit, SwarmJoin, SwarmSpec, SwarmUnlock, UnlockKeyResponse};
use crate::reply::{self, Body, Outcome};
use crate::route::{BodyKind, Route, get, post};
use crate::{compat, convert};

/// What a backup is.
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The operations on the cluster as a whole.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/swarm", inspect)
            .about("SwarmInspect", "Shows the cluster.")
            .gives::<Swarm>(200)
            .fails(&[404, 503]),
        post("/swarm/init", init)
            .about("SwarmInit", "Begins a cluster.")
            .takes::<SwarmInit>()
            .gives::<String>(200)
            .fails(&[400, 501, 503]),
        post("/swarm/join", join)
            .about("SwarmJoin", "Joins a cluster.")
            .takes::<SwarmJoin>()
            .gives_nothing(200)
            .fails(&[400, 501, 503]),
        post("/swarm/leave", leave)
            .about("SwarmLeave", "Leaves the cluster.")
            .flag("force", "Even if that hurts it.")
            .gives_nothing(200)
            .fails(&[503]),
        post("/swarm/update", update)
            .about("SwarmUpdate", "Changes settings of the cluster.")
            .versioned()
            .flag("rotateWorkerToken", "Makes the workers' token anew.")
            .flag("rotateManagerToken", "Makes the managers' token anew.")
            .flag("rotateManagerUnlockKey", "Makes the key anew that unlocks managers.")
            .from(25)
            .takes::<SwarmSpec>()
            .gives_nothing(200)
            .fails(&[400, 404, 501, 503]),
        get("/swarm/backup", backup)
            .about(
                "SwarmBackup",
                "Gives the whole cluster as one text, for `shoald restore-swarm`. Not in Docker.",
            )
            .gives_body(200, BodyKind::Text)
            .fails(&[503]),
        get("/swarm/unlockkey", unlock_key)
            .about("SwarmUnlockkey", "Shows the key that unlocks managers.")
            .gives::<UnlockKeyResponse>(200)
            .fails(&[503]),
        post("/swarm/unlock", unlock)
            .about("SwarmUnlock", "Unlocks a manager.")
            .takes::<SwarmUnlock>()
            .gives_nothing(200)
            .fails(&[400, 401, 409, 503]),
    ]
}

async fn inspect(call: Call) -> Outcome {
    let (cluster, tokens) = managers(&call)?.membership.inspect().await?;
    reply::json(&convert::cluster::swarm(&cluster, tokens))
}

async fn init(mut call: Call) -> Outcome {
    let mut body: SwarmInit = call.json().await?;
    compat::cluster::init(&mut body, call.version);
    let id = call.shared.state.cluster.membership.init(convert::cluster::init(body)?).await?;
    reply::json(&id.to_string())
}

async fn join(mut call: Call) -> Outcome {
    let body: SwarmJoin = call.json().await?;
    call.shared.state.cluster.membership.join(convert::cluster::join(body)?).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn leave(call: Call) -> Outcome {
    let force = if call.query.flag("force") { LeaveForce::Yes } else { LeaveForce::No };
    call.shared.state.cluster.membership.leave(force).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn update(mut call: Call) -> Outcome {
    let body: SwarmSpec = call.json().await?;
    let version = seen_version(&call.query, "swarm")?;
    let mut rotation = Rotation {
        worker_token: strict_truth(&call.query, "rotateWorkerToken")?,
        manager_token: strict_truth(&call.query, "rotateManagerToken")?,
        unlock_key: strict_truth(&call.query, "rotateManagerUnlockKey")?,
        signing: None,
    };
    let membership = &managers(&call)?.membership;
    let (spec, signing) = convert::cluster::updated_spec(body)?;
    rotation.signing = signing;
    membership.update(version, spec, rotation).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn backup(call: Call) -> Outcome {
    let text = managers(&call)?.membership.backup().await?;
    Ok(reply::with_type(StatusCode::OK, PLAIN, Body::from(text)))
}

async fn unlock_key(call: Call) -> Outcome {
    let unlock_key = managers(&call)?.membership.unlock_key().await?;
    reply::json(&UnlockKeyResponse { unlock_key })
}

async fn unlock(mut call: Call) -> Outcome {
    let body: SwarmUnlock = call.json().await?;
    call.shared.state.cluster.membership.unlock(&body.unlock_key).await?;
    Ok(reply::empty(StatusCode::OK))
}
