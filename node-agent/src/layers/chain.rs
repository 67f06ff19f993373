//! Chain ids: the names of stacks of layers. Pure.
//!
//! Start reading at [`chain_ids`] (OCI image spec, config.md, "Layer ChainID").

use registry_client::digest_of;
use shoal_types::{ChainId, DiffId};

/// The chain id of each prefix of a stack of layers, bottom first; as many as there are layers.
pub fn chain_ids(diff_ids: &[DiffId]) -> Vec<ChainId> {
    let mut below: Option<ChainId> = None;
    diff_ids
        .iter()
        .map(|layer| {
            let chain = extend(below, *layer);
            below = Some(chain);
            chain
        })
        .collect()
}

/// The chain id of one layer on top of a stack.
pub fn extend(below: Option<ChainId>, layer: DiffId) -> ChainId {
    match below {
        None => ChainId(layer.0),
        Some(below) => ChainId(digest_of(format!("{below} {layer}").as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let layers: Vec<DiffId> = ["a", "b", "c"].map(|text| DiffId(digest_of(text.as_bytes()))).into();
        let chains = chain_ids(&layers);
        assert_eq!(chains[0].0, layers[0].0);
        let second = digest_of(format!("{} {}", layers[0], layers[1]).as_bytes());
        assert_eq!(chains[1].0, second);
        assert_eq!(chains[2].0, digest_of(format!("{second} {}", layers[2]).as_bytes()));
        assert!(chain_ids(&[]).is_empty());
    }
}
