//! Networks that span nodes, from the leader's side: what nodes are told of them, and who may join them.
//!
//! Start reading at [`tables::Tables`], which keeps a table of entries for each network up to date from what has changed in the
//! store. [`entries`] derives one entry (pure), [`attachments`] lets plain containers join and leave. Sending is the dispatcher's;
//! making links, names and load balancing of a table is the nodes'.

pub(crate) mod attachments;
pub(crate) mod entries;
pub(crate) mod tables;
