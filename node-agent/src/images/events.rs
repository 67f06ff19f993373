//! What the image store tells the world.
//!
//! Start reading at [`Shared::tell`]. Actions and attributes are Docker's: labels of the image, and `name`.

use std::collections::BTreeMap;

use shoal_types::{ImageId, ImageRef};

use super::Shared;
use crate::api::events::EventKind;

impl Shared {
    /// Something happened to an image; `name` is the reference that it happened to, or the id.
    pub(super) fn tell(&self, action: &str, id: &ImageId, name: &str) {
        let mut attributes = self.labels_of(id);
        attributes.insert("name".to_owned(), name.to_owned());
        self.events.publish(EventKind::Image, action, &id.to_string(), attributes);
    }

    /// A name was taken away, or an image that is not here any more is gone. Docker leaves out the labels.
    pub(super) fn tell_bare(&self, action: &str, id: &ImageId, name: &str) {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        self.events.publish(EventKind::Image, action, &id.to_string(), attributes);
    }

    /// Something was moved from or to a registry: the actor is the reference itself.
    pub(super) fn tell_transfer(&self, action: &str, id: &ImageId, reference: &ImageRef) {
        let mut attributes = self.labels_of(id);
        attributes.insert("name".to_owned(), reference.familiar_name());
        self.events.publish(EventKind::Image, action, &reference.familiar(), attributes);
    }

    fn labels_of(&self, id: &ImageId) -> BTreeMap<String, String> {
        let catalog = self.catalog();
        let target = catalog.target(id);
        target.and_then(|target| target.tree.labels(&self.platform)).cloned().unwrap_or_default()
    }
}
