//! Nodes.
//!
//! Start reading at [`routes`].

use http::StatusCode;
use manager::api::nodes::{NodeFilter, RemoveForce};

use super::{each, managers, object_filter, seen_version};
use crate::convert;
use crate::extract::Call;
use crate::filters::Filters;
use crate::model::node::{Node, NodeSpec};
use crate::reply::{self, Outcome};
use crate::route::{Route, delete, get, post};

/// The operations on nodes.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/nodes", list)
            .about("NodeList", "Lists nodes.")
            .filters("Which: id, label, membership, name, node.label, role.")
            .gives::<Vec<Node>>(200)
            .fails(&[400, 503]),
        get("/nodes/{id}", inspect)
            .about("NodeInspect", "Shows a node.")
            .gives::<Node>(200)
            .fails(&[400, 404, 503]),
        post("/nodes/{id}/update", update)
            .about("NodeUpdate", "Changes role, availability or labels of a node.")
            .versioned()
            .takes::<NodeSpec>()
            .gives_nothing(200)
            .fails(&[400, 404, 503]),
        delete("/nodes/{id}", remove)
            .about("NodeDelete", "Forgets a node.")
            .flag("force", "Even one that is not down.")
            .gives_nothing(200)
            .fails(&[400, 404, 503]),
    ]
}

async fn list(call: Call) -> Outcome {
    let filters = Filters::of(&call.query, &["id", "label", "membership", "name", "node.label", "role"])?;
    let filter = NodeFilter {
        object: object_filter(&filters),
        node_labels: filters.pairs("node.label"),
        roles: each(&filters, "role", convert::node::named_role)?,
    };
    // Nodes are members as soon as they exist.
    let memberships = each(&filters, "membership", |value| match value {
        "accepted" => Some(true),
        "pending" => Some(false),
        _ => None,
    })?;
    let nodes = managers(&call)?.nodes.list(filter).await?;
    let are_wanted = memberships.is_empty() || memberships.contains(&true);
    reply::json(&nodes.iter().filter(|_| are_wanted).map(convert::node::shown).collect::<Vec<Node>>())
}

async fn inspect(call: Call) -> Outcome {
    let node = managers(&call)?.nodes.inspect(call.name()).await?;
    reply::json(&convert::node::shown(&node))
}

async fn update(mut call: Call) -> Outcome {
    let body: NodeSpec = call.json().await?;
    let version = seen_version(&call.query, "node")?;
    let nodes = &managers(&call)?.nodes;
    let spec = convert::node::spec(body)?;
    nodes.update(call.name(), version, spec).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn remove(call: Call) -> Outcome {
    let force = if call.query.flag("force") { RemoveForce::Yes } else { RemoveForce::No };
    managers(&call)?.nodes.remove(call.name(), force).await?;
    Ok(reply::empty(StatusCode::OK))
}
