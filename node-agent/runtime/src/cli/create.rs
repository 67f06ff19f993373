//! `create` and `start`.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::log::rfc3339_now;
use super::store::{Entry, Found, Store, read_spec, write_pid_file};
use super::{Invocation, log::Log};
use crate::container::{
    Container, CreateOptions, CreateRequest, Created, Gate, Keyring, RootSwitch, Stdio, TerminalSize,
};
use crate::error::{Context, Result, RuntimeError};
use crate::{lifecycle, listener};

/// The options that `create` and `run` share.
#[derive(Debug, Default)]
pub(super) struct CreateArguments {
    pub(super) bundle: Option<PathBuf>,
    pub(super) console_socket: Option<PathBuf>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) options: CreateOptions,
}

impl CreateArguments {
    /// Reads one option; false when it is not one of these.
    pub(super) fn read(&mut self, option: &str, invocation: &mut Invocation) -> Result<bool> {
        let arguments = &mut invocation.arguments;
        match option {
            "bundle" | "b" => self.bundle = Some(arguments.value()?.into()),
            "console-socket" => self.console_socket = Some(arguments.value()?.into()),
            "pid-file" => self.pid_file = Some(arguments.value()?.into()),
            "no-pivot" => self.options.root_switch = RootSwitch::Chroot,
            "no-new-keyring" => self.options.keyring = Keyring::Inherited,
            "preserve-fds" => self.options.preserved_fds = arguments.number()?,
            "no-subreaper" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn bundle(&self) -> Result<PathBuf> {
        let bundle = self.bundle.clone().unwrap_or_else(|| PathBuf::from("."));
        bundle.canonicalize().step(|| format!("find the bundle {}", bundle.display()))
    }
}

/// Makes a container that waits for `start`.
pub(super) fn create(mut invocation: Invocation) -> Result<u8> {
    let mut arguments = CreateArguments::default();
    while let Some(option) = invocation.arguments.next_option()? {
        if !arguments.read(&option, &mut invocation)? {
            return Err(invocation.arguments.unknown(&option));
        }
    }
    let id = invocation.arguments.id()?;
    invocation.arguments.finish()?;
    let bundle = arguments.bundle()?;
    let spec = read_spec(&bundle.join("config.json"))?;
    let wants_terminal = spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    match (&arguments.console_socket, wants_terminal) {
        (None, true) => {
            return Err(RuntimeError::InvalidSpec(
                "cannot allocate tty if --console-socket is not given".to_owned(),
            ));
        }
        (Some(_), false) => {
            return Err(RuntimeError::InvalidSpec(
                "cannot use console socket if the container has no terminal".to_owned(),
            ));
        }
        _ => {}
    }
    let created = make(&invocation.store, &invocation.log, &id, &bundle, (&spec, &arguments))?;
    if let (Some(socket), Some(master)) = (&arguments.console_socket, &created.terminal) {
        let sent = listener::send_descriptor(socket, b"/dev/pts/ptmx", master.as_fd());
        sent.or_else(|error| abandon(&invocation.store, created.container, &spec, error))?;
    }
    Ok(0)
}

/// Reserves the name, creates the container and writes it down; undoes all of it on failure.
pub(super) fn make(
    store: &Store,
    log: &Log,
    id: &str,
    bundle: &Path,
    (spec, arguments): (&Spec, &CreateArguments),
) -> Result<Created> {
    store.reserve(id)?;
    let made = listener::listen_at(&store.gate(id)?).and_then(|gate| {
        let mut request = CreateRequest::new(id, bundle, spec);
        request.gate = Gate::Listener(gate);
        request.options = arguments.options;
        if spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false) {
            request.stdio = Stdio::Terminal(TerminalSize::default());
        }
        crate::create(request)
    });
    let created = match made {
        Ok(created) => created,
        Err(error) => {
            // The cause is what matters; an empty directory can be deleted by name.
            let _ = store.forget(id);
            return Err(error);
        }
    };
    log.warnings(&created.warnings);
    let entry = Entry { record: created.container.record().clone(), created: rfc3339_now() };
    let written = store.write(&entry, spec).and_then(|()| match &arguments.pid_file {
        Some(path) => write_pid_file(path, created.container.pid()),
        None => Ok(()),
    });
    match written {
        Ok(()) => Ok(created),
        Err(error) => abandon(store, created.container, spec, error),
    }
}

/// Deletes a container that could not be finished, and reports the cause.
fn abandon<T>(store: &Store, container: Container, spec: &Spec, cause: RuntimeError) -> Result<T> {
    let id = container.record().id.clone();
    // What cannot be cleaned up stays below the root under its name, for `delete`.
    if container.delete(spec).is_ok() {
        let _ = store.forget(&id);
    }
    Err(cause)
}

/// Starts a container that `create` has made.
pub(super) fn start(mut invocation: Invocation) -> Result<u8> {
    if let Some(option) = invocation.arguments.next_option()? {
        return Err(invocation.arguments.unknown(&option));
    }
    let id = invocation.arguments.id()?;
    invocation.arguments.finish()?;
    start_by_id(&invocation.store, &id)?;
    Ok(0)
}

pub(super) fn start_by_id(store: &Store, id: &str) -> Result<Container> {
    let entry = store.entry(id)?;
    let spec = store.spec(id)?;
    match store.find(&entry.record)? {
        Found::Created(container) => {
            let gate = store.gate(id)?;
            lifecycle::start_through(&gate, &container, &spec)?;
            std::fs::remove_file(&gate).step(|| format!("remove {}", gate.display()))?;
            Ok(container)
        }
        other => Err(RuntimeError::WrongState { operation: "start", status: other.status() }),
    }
}
