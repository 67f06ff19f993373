//! The cluster: joining and leaving it, and its objects.
//!
//! Start reading at [`routes`]; each noun has a file. Every handler asks one port of `manager::api`, which says why an object
//! cannot be had: this machine is in no cluster, is a worker, or there is no leader.

mod cluster;
mod logs;
pub(crate) mod networks;
mod nodes;
mod secrets;
mod services;
mod tasks;

use manager::api::ObjectFilter;
use manager::api::membership::Standing;
use manager::{Cluster, ClusterError};

use crate::error::ApiError;
use crate::extract::{Call, Query};
use crate::filters::Filters;
use crate::route::ParamKind::Integer;
use crate::route::Route;

/// The operations on the cluster, by noun.
pub(crate) fn routes() -> Vec<(&'static str, Vec<Route>)> {
    let [service_logs, task_logs] = logs::routes();
    vec![
        ("Service", vec![service_logs]),
        ("Task", vec![task_logs]),
        ("Swarm", cluster::routes()),
        ("Node", nodes::routes()),
        ("Service", services::routes()),
        ("Task", tasks::routes()),
        ("Secret", secrets::secret_routes()),
        ("Config", secrets::config_routes()),
    ]
}

impl Route {
    /// Takes the version of the object that the client has seen.
    fn versioned(self) -> Self {
        self.query("version", Integer, "The version of the object that the client has seen.")
    }
}

/// The version in the query, of an object of this noun.
fn seen_version(query: &Query, noun: &str) -> Result<u64, ApiError> {
    let written = query.text("version");
    written.parse().map_err(|error: std::num::ParseIntError| {
        let fault = match error.kind() {
            std::num::IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        ApiError::invalid(format!(
            "invalid {noun} version '{written}': strconv.ParseUint: parsing {written:?}: {fault}"
        ))
    })
}

/// A truth that is written as Go reads it; absent is false, anything else is refused.
fn strict_truth(query: &Query, name: &str) -> Result<bool, ApiError> {
    match query.text(name) {
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        other => Err(ApiError::invalid(format!("invalid value for {name}: {other}"))),
    }
}

/// The same for operations that also tell what Go says of it.
fn parsed_truth(query: &Query, name: &str) -> Result<bool, ApiError> {
    strict_truth(query, name).map_err(|error| {
        let (text, written) = (error.message(), query.text(name));
        ApiError::invalid(format!("{text}: strconv.ParseBool: parsing {written:?}: invalid syntax"))
    })
}

/// The filters that objects of every kind have.
fn object_filter(filters: &Filters) -> ObjectFilter {
    ObjectFilter { ids: filters.get("id"), names: filters.get("name"), labels: filters.labels().required }
}

/// The ports of the cluster, if this machine may answer for it. Whether there is a leader is found out by asking.
fn managers(call: &Call) -> Result<&Cluster, ApiError> {
    ports_of_manager(&call.shared.state.cluster)
}

fn ports_of_manager(cluster: &Cluster) -> Result<&Cluster, ApiError> {
    match cluster.membership.standing() {
        Standing::Inactive => Err(ClusterError::NotAMember.into()),
        Standing::Pending => Err(ClusterError::Preparing.into()),
        Standing::Locked => Err(ClusterError::Locked.into()),
        Standing::Worker(_) => Err(ClusterError::Worker.into()),
        // The port knows what is wrong.
        Standing::Error(_) | Standing::Manager(_) => Ok(cluster),
    }
}

/// The values of a filter that has a few fixed ones. Swarm answers anything else with 500.
fn each<T>(filters: &Filters, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, ApiError> {
    let one = |value: &String| {
        read(&value.to_ascii_lowercase())
            .ok_or_else(|| ApiError::internal_rule(format!("Invalid {name} filter: '{value}'")))
    };
    filters.get(name).iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_are_none_are_refused_with_gos_words() {
        let read =
            |text: &str| seen_version(&Query::parse(text), "service").map_err(|e| e.message().to_owned());
        assert_eq!(read("version=18446744073709551615"), Ok(u64::MAX));
        for (query, written, fault) in [
            ("", "", "invalid syntax"),
            ("version=x", "x", "invalid syntax"),
            ("version=-1", "-1", "invalid syntax"),
            ("version=99999999999999999999", "99999999999999999999", "value out of range"),
        ] {
            let expected = format!(
                "invalid service version '{written}': strconv.ParseUint: parsing \"{written}\": {fault}"
            );
            assert_eq!(read(query), Err(expected));
        }
    }

    #[test]
    fn strict_truths_are_gos() {
        let read = |text: &str| strict_truth(&Query::parse(&format!("t={text}")), "t");
        assert_eq!((read("true"), read("0"), read("")), (Ok(true), Ok(false), Ok(false)));
        assert_eq!(read("yes").unwrap_err().message(), "invalid value for t: yes");
    }
}
