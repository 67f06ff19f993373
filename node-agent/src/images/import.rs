//! Images of one layer from the archive of a file tree.
//!
//! Start reading at [`import`]. A gzip or zstd archive is stored as it came; everything else is stored as gzip.

use std::io::Read;
use std::sync::Arc;

use jiff::Timestamp;
use registry_client::media_type;
use serde_json::value::to_raw_value;
use shoal_types::ImageId;

use super::commit::{NewLayer, new_config};
use super::config::HistoryItem;
use super::source::SourceReader;
use super::stream::Out;
use super::{Shared, instructions};
use crate::api::ByteSource;
use crate::api::images::{ImageRunConfig, ImportRequest, Progress};
use crate::content::Draft;
use crate::error::NodeError;
use crate::layers::LayerError;
use crate::layers::apply::Limits;
use crate::layers::archive::ArchiveError;
use crate::layers::compression::{Compression, decoder, recognise};
use crate::layers::pack::{Tee, compress};
use crate::layers::unpack::{Unpacked, unpack};
use crate::userns::IdMapping;

/// The source that means the body of the request.
const THIS_REQUEST: &str = "-";

/// How far a download has come is told each time that so many more bytes are there.
const PROGRESS_STEP: u64 = 1 << 20;

/// Takes in an archive as an image.
pub(super) async fn import(
    shared: Arc<Shared>,
    request: ImportRequest,
    archive: ByteSource,
    out: Out,
) -> Result<(), NodeError> {
    let run_config = instructions::apply(ImageRunConfig::default(), &request.changes)?;
    let archive =
        if request.source == THIS_REQUEST { archive } else { fetch(&shared, &request.source, &out).await? };
    let layer = take_layer(&shared, archive).await?;
    let now = Timestamp::now();
    let comment = if request.message.is_empty() {
        format!("Imported from {}", request.source)
    } else {
        request.message
    };
    let mut config = new_config(request.platform.as_ref().unwrap_or(&shared.platform));
    config.created = Some(now);
    let raw =
        to_raw_value(&run_config).map_err(|source| NodeError::failed("write an image config", source))?;
    config.config = Some(raw);
    config.rootfs.diff_ids.push(layer.unpacked.diff_id);
    config.history.push(HistoryItem { created: Some(now), comment, ..HistoryItem::default() });
    let reference = request.reference.clone();
    let id: ImageId = shared.record_new(config, vec![layer.blob.clone()], (None, reference)).await?;
    if let Some(reference) = request.reference {
        shared.tell("tag", &id, &reference.with_default_tag().familiar());
    }
    shared.tell("import", &id, &id.to_string());
    out.tell(Progress::Imported(id)).await
}

/// The archive at an address. Nothing of it is kept but what unpacking makes of it, which has limits of its own.
async fn fetch(shared: &Arc<Shared>, address: &str, out: &Out) -> Result<ByteSource, NodeError> {
    let download = shared.registries.download(address).await?;
    out.tell(Progress::Note(format!("Downloading from {address}"))).await?;
    let all = download.length().unwrap_or_default();
    let begun = (download, out.clone(), 0_u64, 0_u64);
    let pieces = futures_util::stream::try_unfold(begun, move |(mut download, out, done, told)| async move {
        let Some(piece) = download.chunk().await.map_err(std::io::Error::other)? else { return Ok(None) };
        let done = done + piece.len() as u64;
        let is_due = done - told >= PROGRESS_STEP || done == all;
        if is_due {
            let _ = out.tell(Progress::Importing(done, all)).await;
        }
        Ok(Some((piece, (download, out, done, if is_due { done } else { told }))))
    });
    Ok(Box::pin(pieces))
}

async fn take_layer(shared: &Arc<Shared>, archive: ByteSource) -> Result<NewLayer, NodeError> {
    let staged = shared.stage().await?;
    let dir = staged.dir.clone();
    let source = SourceReader::start(archive);
    let (unpacked, draft) = shared
        .block("unpack an archive", move |shared| {
            Ok(take(source, &dir, shared.content.draft()?, &shared.ids)?)
        })
        .await?;
    let media_type = match unpacked.compression {
        Compression::Zstd => media_type::OCI_LAYER_ZSTD,
        Compression::None | Compression::Gzip | Compression::Bzip2 | Compression::Xz => {
            media_type::OCI_LAYER_GZIP
        }
    };
    shared.adopt_layer(staged, unpacked, draft, (None, media_type)).await
}

fn take(
    source: impl Read + Send,
    dir: &std::path::Path,
    draft: Draft,
    ids: &IdMapping,
) -> Result<(Unpacked, Draft), LayerError> {
    let (compression, source) = recognise(source).map_err(ArchiveError::from)?;
    match compression {
        Compression::Gzip | Compression::Zstd => {
            let mut tee = Tee { source, copy: draft };
            let unpacked = unpack(&mut tee, dir, Limits::default(), ids)?;
            // What stands after the compressed stream belongs to the blob.
            std::io::copy(&mut tee, &mut std::io::sink()).map_err(ArchiveError::from)?;
            Ok((unpacked, tee.copy))
        }
        Compression::None | Compression::Bzip2 | Compression::Xz => {
            let mut plain = decoder(compression, source).map_err(ArchiveError::from)?;
            compress(&mut plain, dir, draft, ids)
        }
    }
}
