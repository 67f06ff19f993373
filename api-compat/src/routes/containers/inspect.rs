//! A container in detail.
//!
//! Start reading at [`inspect`].

use crate::extract::Call;
use crate::reply::{self, Outcome};
use crate::{compat, convert};

pub(super) async fn inspect(call: Call) -> Outcome {
    let views = &call.shared.state.node.views;
    let view = views.inspect(call.name()).await?;
    let sizes = if call.query.flag("size") { Some(views.sizes(call.name()).await?) } else { None };
    let mut shown = convert::container_inspect::inspect(&view, sizes);
    compat::containers::inspect(&mut shown, call.version);
    reply::json(&shown)
}
