//! Images, and how they come and go.
//!
//! Start reading at [`routes`].

mod build;
mod list;
mod transfer;

use crate::model::image::{
    AttestationStatement, DistributionInspect, ImageDeleteResponseItem, ImageHistoryResponseItem,
    ImageInspect, ImagePruneResponse, ImageSearchResponseItem, ImageSummary,
};
use crate::model::progress::ProgressMessage;
use crate::route::ParamKind::{Integer, Texts};
pub(crate) use build::routes as build_routes;

use crate::route::{BodyKind, Route, delete, get, post};
use crate::routes::containers::commit_route;

/// The operations on images.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
        get("/images/json", list::list)
            .about("ImageList", "Lists images, newest first.")
            .flag("all", "Also parents of images that nothing names.")
            .text("filter", "A pattern of names, as very old clients send it.")
            .filters("Which: before, dangling, label, reference, since, until.")
            .flag("shared-size", "Also how much they share.")
            .from(42)
            .flag("digests", "Ignored: digests are always told.")
            .flag("manifests", "Also the parts of indexes.")
            .from(47)
            .flag("identity", "Also where parts come from; needs `manifests`.")
            .from(54)
            .gives::<Vec<ImageSummary>>(200)
            .fails(&[400, 404]),
        get("/images/search", transfer::search)
            .about("ImageSearch", "Asks the default registry for images.")
            .text("term", "Part of a name.")
            .query("limit", Integer, "How many at most, 1 to 100; 25 by default.")
            .filters("Which: is-automated, is-official, stars.")
            .header("X-Registry-Auth", "Credentials, as JSON in base64url.")
            .gives::<Vec<ImageSearchResponseItem>>(200)
            .fails(&[400]),
        get("/images/{name}/json", list::inspect)
            .about("ImageInspect", "Shows an image in detail.")
            .flag("manifests", "Also the parts of its index.")
            .from(48)
            .text("platform", "For which platform, as a JSON object.")
            .from(49)
            .gives::<ImageInspect>(200)
            .fails(&[400, 404]),
        get("/images/{name}/history", list::history)
            .about("ImageHistory", "Tells how an image was made, newest step first.")
            .text("platform", "For which platform, as a JSON object.")
            .from(48)
            .gives::<Vec<ImageHistoryResponseItem>>(200)
            .fails(&[400, 404]),
        get("/images/{name}/attestations", list::attestations)
            .about("ImageAttestations", "Lists what is attested of an image.")
            .since(55)
            .query("platform", Texts, "For which platform, as a JSON object.")
            .query("type", Texts, "Only statements of these types.")
            .flag("statement", "Also the statements themselves.")
            .gives::<Vec<AttestationStatement>>(200)
            .fails(&[400, 404]),
        post("/images/{name}/tag", list::tag)
            .about("ImageTag", "Gives an image a further name.")
            .text("repo", "The repository.")
            .text("tag", "The tag; `latest` by default.")
            .gives_nothing(201)
            .fails(&[400, 404, 409]),
        delete("/images/{name}", list::remove)
            .about("ImageDelete", "Takes away a name, and the content that nothing refers to any more.")
            .flag("force", "Even if several repositories or stopped containers refer to it.")
            .flag("noprune", "Parents without a name stay.")
            .query("platforms", Texts, "Only these parts, each as a JSON object.")
            .from(50)
            .gives::<Vec<ImageDeleteResponseItem>>(200)
            .fails(&[400, 404, 409]),
        post("/images/prune", list::prune)
            .about("ImagePrune", "Removes images that nothing uses.")
            .filters("Which: dangling, label, label!, until.")
            .gives::<ImagePruneResponse>(200)
            .fails(&[400, 409]),
        commit_route(),
    ];
    routes.extend(transfer_routes());
    routes
}

fn transfer_routes() -> Vec<Route> {
    vec![
        post("/images/create", transfer::create)
            .about("ImageCreate", "Fetches an image from a registry, or makes one from a file tree.")
            .text("fromImage", "What to fetch.")
            .text("fromSrc", "`-` for a file tree in the body, or where it can be had.")
            .text("repo", "Name of an imported image.")
            .text("tag", "Tag or digest; all tags without one.")
            .text("message", "Comment of an imported image.")
            .from(39)
            .query(
                "changes",
                Texts,
                "Dockerfile instructions that make the configuration of an imported image.",
            )
            .from(40)
            .text("platform", "Which platform, as `os[/arch[/variant]]`.")
            .from(32)
            .header("X-Registry-Auth", "Credentials, as JSON in base64url.")
            .takes_bytes("application/octet-stream")
            .streams::<ProgressMessage>()
            .fails(&[400, 403, 404, 501]),
        post("/images/{name}/push", transfer::push)
            .about("ImagePush", "Sends an image to its registry.")
            .text("tag", "Which tag; all without one.")
            .text("platform", "Only this part, as a JSON object.")
            .from(46)
            .header("X-Registry-Auth", "Credentials, as JSON in base64url.")
            .streams::<ProgressMessage>()
            .fails(&[400, 404]),
        get("/images/get", transfer::save_all)
            .about("ImageGetAll", "Sends images as an archive.")
            .query("names", Texts, "Which.")
            .query("platform", Texts, "Only these platforms, each as a JSON object.")
            .from(48)
            .gives_body(200, BodyKind::Bytes("application/x-tar"))
            .fails(&[400, 404]),
        get("/images/{name}/get", transfer::save)
            .about("ImageGet", "Sends an image as an archive.")
            .query("platform", Texts, "Only these platforms, each as a JSON object.")
            .from(48)
            .gives_body(200, BodyKind::Bytes("application/x-tar"))
            .fails(&[400, 404]),
        post("/images/load", transfer::load)
            .about("ImageLoad", "Takes in an archive of images.")
            .flag("quiet", "Progress is left out.")
            .query("platform", Texts, "Only these platforms, each as a JSON object.")
            .from(48)
            .takes_bytes("application/x-tar")
            .streams::<ProgressMessage>()
            .fails(&[400]),
    ]
}

/// Asking a registry.
pub(crate) fn distribution_routes() -> Vec<Route> {
    vec![
        get("/distribution/{name}/json", transfer::distribution)
            .about("DistributionInspect", "Asks a registry what a reference means there.")
            .since(30)
            .header("X-Registry-Auth", "Credentials, as JSON in base64url.")
            .gives::<DistributionInspect>(200)
            .fails(&[400, 401, 403, 404]),
    ]
}
