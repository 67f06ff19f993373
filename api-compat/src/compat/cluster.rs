//! The cluster as older versions ask for it.
//!
//! Start reading at [`init`].

use crate::model::cluster::SwarmInit;
use crate::version::ApiVersion;

/// Drops from a wish for a cluster what its version did not know.
pub(crate) fn init(init: &mut SwarmInit, version: ApiVersion) {
    if version.is_below(39) {
        init.default_addr_pool = None;
        init.subnet_size = 0;
    }
    if version.is_below(40) {
        init.data_path_port = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_version_did_not_know_is_dropped() {
        let seen = |minor: u16| {
            let mut wish = SwarmInit {
                default_addr_pool: Some(vec!["10.0.0.0/8".into()]),
                subnet_size: 24,
                data_path_port: 5000,
                ..SwarmInit::default()
            };
            init(&mut wish, ApiVersion::v1(minor));
            (wish.default_addr_pool.is_some(), wish.subnet_size, wish.data_path_port)
        };
        assert_eq!(seen(38), (false, 0, 0));
        assert_eq!(seen(39), (true, 24, 0));
        assert_eq!(seen(40), (true, 24, 5000));
    }
}
