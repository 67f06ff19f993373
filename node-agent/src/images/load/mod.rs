//! Takes in images from archives: of `save`, of other engines, of the OCI layout; plain or compressed.
//!
//! Start reading at [`load`]. The archive is a stream in any order, so its files are stored first (`intake.rs`), then the
//! documents among them say what they are: `index.json` (`oci.rs`), or `manifest.json` or the layout before it
//! (`docker.rs`). What no document refers to is removed at the end, and everything if the archive is refused.

mod docker;
mod intake;
mod oci;

use std::collections::BTreeSet;
use std::sync::Arc;

use shoal_types::{Digest, ErrorKind, ImageId, ImageRef, Platform};

use self::intake::Intake;
use super::Shared;
use super::fetch::{LayerPlan, LayerTicket};
use super::flights::State;
use super::holds::Item;
use super::record::TargetRecord;
use super::source::SourceReader;
use super::stream::Out;
use super::tree::{Fit, ImageTree, Part};
use crate::api::ByteSource;
use crate::api::images::{LayerPhase, LoadRequest, LoadedImage, Progress};
use crate::error::NodeError;

/// An image that an archive holds, all of whose documents are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Arrived {
    target: Digest,
    media_type: String,
    size: u64,
    names: Vec<ImageRef>,
}

/// Whether layers are shown one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verbosity {
    Quiet,
    Normal,
}

/// Takes in an archive.
pub(super) async fn load(
    shared: Arc<Shared>,
    request: LoadRequest,
    archive: ByteSource,
    out: Out,
) -> Result<(), NodeError> {
    let source = SourceReader::start(archive);
    let reading = shared.block("read an image archive", move |shared| {
        let mut intake = Intake::read(shared, source)?;
        // The documents may be refused; what was stored is known in any case.
        let arrived = interpret(shared, &mut intake);
        Ok((intake, arrived))
    });
    let (intake, arrived) = reading.await?;
    let loaded = match arrived {
        Ok(arrived) => take_in(&shared, &request, arrived, &intake, &out).await,
        Err(error) => Err(error),
    };
    // Whether it went well or not: what no image refers to goes.
    let stored: Vec<Digest> = intake.release();
    shared.sweep(stored, Vec::new(), Vec::new()).await?;
    loaded
}

fn interpret(shared: &Shared, intake: &mut Intake) -> Result<Vec<Arrived>, NodeError> {
    if intake.document("index.json").is_some() && intake.document("oci-layout").is_some() {
        return oci::interpret(shared, intake);
    }
    if let Some(manifest) = intake.document("manifest.json").cloned() {
        return docker::interpret(shared, intake, &manifest);
    }
    if let Some(repositories) = intake.document("repositories").cloned() {
        return docker::interpret_legacy(shared, intake, &repositories);
    }
    Err(NodeError::invalid("invalid archive: does not contain a manifest.json"))
}

async fn take_in(
    shared: &Arc<Shared>,
    request: &LoadRequest,
    arrived: Vec<Arrived>,
    intake: &Intake,
    out: &Out,
) -> Result<(), NodeError> {
    let verbosity = if request.quiet { Verbosity::Quiet } else { Verbosity::Normal };
    for image in arrived {
        let id = ImageId(image.target);
        let media_type = image.media_type.clone();
        let (platforms, stored) = (request.platforms.clone(), intake.stored());
        let tree = shared
            .block("read a loaded image", move |shared| {
                drop_other_platforms(shared, id, &media_type, &platforms, &stored)?;
                ImageTree::read(&shared.content, id, &media_type)
            })
            .await?;
        let unpack = chosen_parts(shared, &tree, &request.platforms, &image)?;
        for part in unpack {
            unpack_part(shared, part, verbosity, out).await?;
        }
        let record = TargetRecord::new(&image.media_type, image.size);
        let _held = shared.holds.hold(tree.blobs().into_iter().map(Item::Blob));
        shared.record_image(record, tree, image.names.clone()).await?;
        shared.tell("load", &id, &id.to_string());
        if image.names.is_empty() {
            out.tell(Progress::Loaded(LoadedImage::Unnamed(id))).await?;
        }
        for name in &image.names {
            out.tell(Progress::Loaded(LoadedImage::Named(name.familiar()))).await?;
        }
    }
    Ok(())
}

/// The parts that are unpacked now: those that were asked for, or the one for this machine. Others are when a container
/// wants them.
fn chosen_parts<'a>(
    shared: &Shared,
    tree: &'a ImageTree,
    platforms: &[Platform],
    image: &Arrived,
) -> Result<Vec<&'a Part>, NodeError> {
    if platforms.is_empty() {
        return Ok(tree.choose(&shared.platform, Fit::Exact).map(|(part, _)| part).into_iter().collect());
    }
    let parts = platforms.iter().map(|platform| {
        let found = tree.choose(platform, Fit::Exact).map(|(part, _)| part);
        found.filter(|part| part.is_available(&shared.content)).ok_or_else(|| {
            let name = image.names.first().map_or_else(|| image.target.to_string(), ImageRef::familiar);
            let message = format!("requested platform ({platform}) not found in image {name}");
            NodeError::Refused { kind: ErrorKind::NotFound, message }
        })
    });
    parts.collect()
}

/// Forgets the manifests of platforms that were not asked for, as far as this archive brought them.
fn drop_other_platforms(
    shared: &Shared,
    id: ImageId,
    media_type: &str,
    platforms: &[Platform],
    stored: &BTreeSet<Digest>,
) -> Result<(), NodeError> {
    if platforms.is_empty() {
        return Ok(());
    }
    let tree = ImageTree::read(&shared.content, id, media_type)?;
    for part in &tree.parts {
        let Some(facts) = &part.facts else { continue };
        let is_wanted = platforms.iter().any(|platform| facts.platform.rank_on(platform).is_some());
        let digest = part.descriptor.digest;
        if !is_wanted && digest != id.0 && stored.contains(&digest) {
            shared.content.remove(digest)?;
        }
    }
    Ok(())
}

/// Unpacks a part, if all of it is here.
async fn unpack_part(
    shared: &Arc<Shared>,
    part: &Part,
    verbosity: Verbosity,
    out: &Out,
) -> Result<(), NodeError> {
    let (Some(manifest), Some(facts)) = (&part.manifest, &part.facts) else { return Ok(()) };
    if !part.is_available(&shared.content) {
        return Ok(());
    }
    let plan = LayerPlan::new(&manifest.layers, facts, None)?;
    let _held = shared.holds.hold(plan.items());
    for (layer_idx, layer) in plan.layers.iter().enumerate() {
        let ticket = shared.join_layer(&plan, layer_idx);
        match verbosity {
            Verbosity::Quiet => ticket.landed().await?,
            Verbosity::Normal => show_loading(&layer.diff_id.0.short(), ticket, out).await?,
        }
    }
    Ok(())
}

async fn show_loading(id: &str, mut ticket: LayerTicket, out: &Out) -> Result<(), NodeError> {
    loop {
        match ticket.state() {
            State::Done(outcome) => return outcome.map_err(NodeError::Shared),
            State::Progress(LayerPhase::Extracting(done, total)) => {
                out.tell_if_room(id, LayerPhase::Loading(done, total));
            }
            State::Progress(_) => {}
        }
        ticket.changed().await?;
    }
}
