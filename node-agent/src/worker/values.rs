//! What templates of a task may look at.
//!
//! Start reading at [`TaskValues`], for fields of the service's spec, and [`FileValues`], for the content of secrets and configs, which
//! may also refer to other secrets and configs of the task and to its environment. Pure.

use std::collections::BTreeMap;

use shoal_types::cluster::task::{Task, TaskPlace};
use shoal_types::{NodeId, Platform};

use super::template::{Scope, Value, map};

/// What a node says of itself in templates.
#[derive(Debug, Clone)]
pub(super) struct NodeFacts {
    /// The node.
    pub(super) id: NodeId,
    /// Its host name.
    pub(super) hostname: String,
    /// What it runs.
    pub(super) platform: Platform,
}

/// Fields of service, task and node.
#[derive(Debug)]
pub(super) struct TaskValues<'a> {
    /// The task.
    pub(super) task: &'a Task,
    /// The node.
    pub(super) node: &'a NodeFacts,
}

impl Scope for TaskValues<'_> {
    fn field(&self, path: &[String]) -> Option<Value> {
        let (task, node) = (self.task, self.node);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        Some(match path[..] {
            ["Service", "ID"] => Value::Text(task.service.to_string()),
            ["Service", "Name"] => Value::Text(task.service_name.clone()),
            ["Service", "Labels"] => map(&task.labels),
            ["Service", "Labels", label] => Value::Text(task.labels.get(label)?.clone()),
            ["Node", "ID"] => Value::Text(node.id.to_string()),
            ["Node", "Hostname"] => Value::Text(node.hostname.clone()),
            ["Node", "Platform", "OS"] => Value::Text(node.platform.os.clone()),
            ["Node", "Platform", "Architecture"] => Value::Text(machine_name(&node.platform).to_owned()),
            ["Task", "ID"] => Value::Text(task.id.to_string()),
            ["Task", "Name"] => Value::Text(task.name()),
            ["Task", "Slot"] => Value::Text(match task.place {
                TaskPlace::Slot(slot) => slot.to_string(),
                // A task of a global service is known by its node instead, as in swarm.
                TaskPlace::Node(node) => node.to_string(),
            }),
            _ => return None,
        })
    }

    fn call(&self, function: &str, arguments: &[String]) -> Option<Result<String, String>> {
        match (function, arguments) {
            ("join", [mark, words @ ..]) => Some(Ok(words.join(mark))),
            ("join", []) => Some(Err("join takes a separator".to_owned())),
            _ => None,
        }
    }
}

/// The machine's name as `uname` has it, which is what a swarm node shows.
fn machine_name(platform: &Platform) -> &str {
    match platform.architecture.as_str() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

/// What the content of a secret or config may look at.
#[derive(Debug)]
pub(super) struct FileValues<'a> {
    /// Fields.
    pub(super) values: TaskValues<'a>,
    /// Secrets by the path at which the task sees them.
    pub(super) secrets: &'a BTreeMap<String, Vec<u8>>,
    /// Configs by the path at which the task sees them.
    pub(super) configs: &'a BTreeMap<String, Vec<u8>>,
    /// The task's environment.
    pub(super) env: &'a [String],
}

impl Scope for FileValues<'_> {
    fn field(&self, path: &[String]) -> Option<Value> {
        self.values.field(path)
    }

    fn call(&self, function: &str, arguments: &[String]) -> Option<Result<String, String>> {
        let found = |kind: &str, files: &BTreeMap<String, Vec<u8>>, target: &str| {
            let data = files.get(target).ok_or_else(|| format!("{kind} target {target} not found"))?;
            String::from_utf8(data.clone()).map_err(|_| format!("{kind} target {target} is no text"))
        };
        match (function, arguments) {
            ("secret", [target]) => Some(found("secret", self.secrets, target)),
            ("config", [target]) => Some(found("config", self.configs, target)),
            ("env", [name]) => {
                let value = self.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
                Some(Ok(value.unwrap_or_default().to_owned()))
            }
            ("secret" | "config" | "env", _) => Some(Err(format!("{function} takes one name"))),
            _ => self.values.call(function, arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::template::expand;
    use crate::worker::testing::{a_task, node_facts};

    #[test]
    fn service_task_and_node_are_there() {
        let task = a_task("web", 3);
        let node = node_facts();
        let values = TaskValues { task: &task, node: &node };
        let template =
            "{{.Service.Name}} {{.Node.Hostname}}-{{.Task.Slot}} {{.Task.Name}} {{.Node.Platform.OS}}";
        let wanted = format!("web host-3 web.3.{} linux", task.id);
        assert_eq!(expand(template, &values).unwrap(), wanted);
    }

    #[test]
    fn files_see_other_files_and_the_environment() {
        let task = a_task("web", 3);
        let node = node_facts();
        let secrets = [("pw".to_owned(), b"s3cret".to_vec())].into();
        let configs = [("/etc/app".to_owned(), b"conf".to_vec()), ("bin".to_owned(), vec![0xff])].into();
        let env = ["MODE=fast".to_owned()];
        let scope = FileValues {
            values: TaskValues { task: &task, node: &node },
            secrets: &secrets,
            configs: &configs,
            env: &env,
        };
        let template = "{{secret \"pw\"}} {{config \"/etc/app\"}} {{env \"MODE\"}} {{env \"NO\"}}.";
        assert_eq!(expand(template, &scope).unwrap(), "s3cret conf fast .");
        for (template, wanted) in [
            ("{{secret \"no\"}}", "secret target no not found"),
            ("{{config \"bin\"}}", "config target bin is no text"),
        ] {
            assert!(expand(template, &scope).unwrap_err().to_string().contains(wanted));
        }
    }
}
