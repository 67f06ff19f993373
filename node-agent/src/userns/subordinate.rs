//! Whom containers are remapped to: what `--userns-remap` says, looked up among the host's accounts and in /etc/subuid and
//! /etc/subgid.
//!
//! Start reading at [`resolve`]. The texts are dockerd's. `default` stands for the user `dockremap`, which is made with the
//! machine's own programs when it is missing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{IdMapping, IdRange};
use crate::command;
use crate::error::NodeError;

/// What the setting says for "make a user for it".
const DEFAULT: &str = "default";
/// That user and its group.
const DEFAULT_USER: &str = "dockremap";
/// The ids that `dockremap` gets when nobody else has them, as dockerd chooses them.
const FIRST_ID: u32 = 100_000;
const N_IDS: u32 = 65_536;
/// More than an account of ours may take to be made on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The host's files that are looked into.
#[derive(Debug, Clone)]
pub struct AccountFiles {
    directory: PathBuf,
}

impl Default for AccountFiles {
    fn default() -> Self {
        Self { directory: PathBuf::from("/etc") }
    }
}

impl AccountFiles {
    /// Files of other accounts, for tests.
    pub fn below(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The content of a file; one that is missing is empty.
    fn read(&self, name: &str) -> Result<String, NodeError> {
        match std::fs::read_to_string(self.directory.join(name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            outcome => outcome.map_err(|source| {
                NodeError::failed(format!("read {}", self.directory.join(name).display()), source)
            }),
        }
    }

    fn accounts(&self) -> Result<HostAccounts, NodeError> {
        Ok(HostAccounts { users: self.read("passwd")?, groups: self.read("group")? })
    }
}

/// Finds the mapping that a setting asks for; the identity when root shall be root.
pub async fn resolve(setting: &str, files: &AccountFiles) -> Result<IdMapping, NodeError> {
    if setting == DEFAULT && files.accounts()?.user(DEFAULT_USER).is_none() {
        make_default_user().await.map_err(|reason| {
            NodeError::invalid(format!("Error during {DEFAULT_USER:?} user creation: {reason}"))
        })?;
    }
    let found = identify(setting, &files.accounts()?).map_err(NodeError::invalid)?;
    if found.user.name == "root" {
        tracing::warn!("User namespaces: root cannot be remapped with itself; user namespaces are OFF");
        return Ok(IdMapping::default());
    }
    if setting == DEFAULT && ranges(&files.read("subuid")?, &found.user).is_empty() {
        grant_default_ids(files).await.map_err(|reason| {
            NodeError::invalid(format!("Error during {DEFAULT_USER:?} user creation: {reason}"))
        })?;
    }
    let of = |text: String, account: &Account, what: &str| {
        let ranges = ranges(&text, account);
        let none = || {
            let text = format!(
                "Can't create ID mappings: No sub{what} ranges found for user {:?} in /etc/sub{what}",
                account.name
            );
            NodeError::invalid(text)
        };
        if ranges.is_empty() { Err(none()) } else { Ok(mapped(ranges)) }
    };
    let users = of(files.read("subuid")?, &found.user, "uid")?;
    // dockerd looks for the user's name there too; the manual says the group's.
    let subgid = files.read("subgid")?;
    let by_user = ranges(&subgid, &Account { id: u32::MAX, ..found.user.clone() });
    let groups = if by_user.is_empty() { of(subgid, &found.group, "gid")? } else { mapped(by_user) };
    Ok(IdMapping::new(users, groups))
}

/// A user or a group of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    name: String,
    id: u32,
}

/// The accounts of the host, as texts of passwd(5) and group(5).
struct HostAccounts {
    users: String,
    groups: String,
}

impl HostAccounts {
    fn user(&self, wanted: &str) -> Option<Account> {
        find(&self.users, wanted)
    }

    fn group(&self, wanted: &str) -> Option<Account> {
        find(&self.groups, wanted)
    }
}

/// An account by its name or its number, which is the third field of both files.
fn find(text: &str, wanted: &str) -> Option<Account> {
    let number: Option<u32> = wanted.parse().ok();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.trim();
        let id: u32 = fields.nth(1)?.trim().parse().ok()?;
        let is_it = number.map_or(name == wanted, |number| number == id);
        is_it.then(|| Account { name: name.to_owned(), id })
    })
}

/// Whom a setting names.
#[derive(Debug, PartialEq, Eq)]
struct Remapped {
    user: Account,
    group: Account,
}

/// PURE. `default`, `user`, `user:group`, with names or numbers.
fn identify(setting: &str, accounts: &HostAccounts) -> Result<Remapped, String> {
    let parts: Vec<&str> = setting.split(':').collect();
    let (user, group) = match parts.as_slice() {
        [user] => (*user, None),
        [user, group] => (*user, Some(*group)),
        _ => return Err(format!("Invalid user/group specification in --userns-remap: {setting:?}")),
    };
    let user = if user == DEFAULT { DEFAULT_USER } else { user };
    let no_user = || match user.parse::<u32>() {
        Ok(uid) => format!("Uid {uid} has no entry in /etc/passwd: no matching entries in passwd file"),
        Err(_) => format!("Error during uid lookup for {user:?}: no matching entries in passwd file"),
    };
    let found = accounts.user(user).ok_or_else(no_user)?;
    let no_group = |name: &str| match (name.parse::<u32>(), group) {
        (Ok(gid), None) => format!("Gid {gid} has no entry in /etc/group: no matching entries in group file"),
        (Ok(gid), Some(_)) => {
            format!("Gid {gid} has no entry in /etc/passwd: no matching entries in group file")
        }
        (Err(_), None) => format!("Error during gid lookup for {name:?}: no matching entries in group file"),
        (Err(_), Some(_)) => {
            format!("Error during groupname lookup for {name:?}: no matching entries in group file")
        }
    };
    let name = group.unwrap_or(user);
    let group = accounts.group(name).ok_or_else(|| no_group(name))?;
    Ok(Remapped { user: found, group })
}

/// PURE. The ranges `(first, length)` that subuid(5) grants to an account by name or number, by their first id.
fn ranges(text: &str, account: &Account) -> Vec<(u32, u32)> {
    let number = account.id.to_string();
    let mut granted: Vec<(u32, u32)> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let name = fields.next()?;
            let (first, length) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (name == account.name || name == number).then_some((first, length))
        })
        .filter(|(first, length): &(u32, u32)| *length > 0 && first.checked_add(*length).is_some())
        .collect();
    granted.sort_unstable();
    granted
}

/// PURE. The ranges one behind the other inside, from 0 on.
fn mapped(ranges: Vec<(u32, u32)>) -> Vec<IdRange> {
    let mut inside: u32 = 0;
    let mut mapped = Vec::with_capacity(ranges.len());
    for (outside, length) in ranges {
        let length = length.min(u32::MAX - inside);
        mapped.push(IdRange { inside, outside, length });
        inside += length;
    }
    mapped
}

/// PURE. The first id from which on nobody has been granted any, as dockerd looks for it.
fn first_free(text: &str) -> u32 {
    let mut granted: Vec<(u32, u32)> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':').skip(1);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .collect();
    granted.sort_unstable();
    granted.into_iter().fold(FIRST_ID, |free, (first, length)| {
        let overlaps = first < free.saturating_add(N_IDS) && free < first.saturating_add(length);
        if overlaps { first.saturating_add(length) } else { free }
    })
}

async fn make_default_user() -> Result<(), String> {
    // Debian's program makes the group as well; useradd(8) does by `-U`.
    run("useradd", &["--system", "-U", "--no-create-home", "--shell", "/bin/false", DEFAULT_USER]).await
}

async fn grant_default_ids(files: &AccountFiles) -> Result<(), String> {
    let texts = files.read("subuid").and_then(|users| Ok((users, files.read("subgid")?)));
    let (users, groups) = texts.map_err(|error| error.message())?;
    let range = |text: &str| {
        let first = first_free(text);
        format!("{first}-{}", first.saturating_add(N_IDS - 1))
    };
    run("usermod", &["-v", &range(&users), "-w", &range(&groups), DEFAULT_USER]).await
}

async fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    match command::run(program, arguments, LIMIT).await {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", output.complaint())),
        Err(error) => Err(crate::error::ErrorChain(&error).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> HostAccounts {
        HostAccounts {
            users:
                "root:x:0:0:root:/root:/bin/sh\nana:x:1000:1000::/home/ana:/bin/sh\nbob:x:1001:7::/:/bin/sh\n"
                    .to_owned(),
            groups: "root:x:0:\nana:x:1000:\nstaff:x:50:ana\n".to_owned(),
        }
    }

    fn account(name: &str, id: u32) -> Account {
        Account { name: name.to_owned(), id }
    }

    #[test]
    fn a_user_is_named_in_every_form_that_dockerd_takes() {
        for setting in ["ana", "1000", "ana:ana", "1000:1000", "1000:ana"] {
            let found = identify(setting, &accounts()).unwrap();
            assert_eq!(
                found,
                Remapped { user: account("ana", 1000), group: account("ana", 1000) },
                "{setting}"
            );
        }
        assert_eq!(identify("bob:staff", &accounts()).unwrap().group, account("staff", 50));
    }

    #[test]
    fn who_is_unknown_is_refused_in_dockerds_words() {
        let cases = [
            ("a:b:c", "Invalid user/group specification in --userns-remap: \"a:b:c\""),
            ("eve", "Error during uid lookup for \"eve\": no matching entries in passwd file"),
            ("77", "Uid 77 has no entry in /etc/passwd: no matching entries in passwd file"),
            ("bob", "Error during gid lookup for \"bob\": no matching entries in group file"),
            ("1001", "Gid 1001 has no entry in /etc/group: no matching entries in group file"),
            ("ana:eve", "Error during groupname lookup for \"eve\": no matching entries in group file"),
            ("ana:77", "Gid 77 has no entry in /etc/passwd: no matching entries in group file"),
        ];
        for (setting, expected) in cases {
            assert_eq!(identify(setting, &accounts()).unwrap_err(), expected);
        }
    }

    #[test]
    fn granted_ranges_follow_each_other_inside() {
        let text = "ana:200000:10\n# note\nbroken\nbob:1:1\n1000:100000:65536\nana:7:0\n";
        let ranges = mapped(ranges(text, &account("ana", 1000)));
        let expected = [
            IdRange { inside: 0, outside: 100_000, length: 65_536 },
            IdRange { inside: 65_536, outside: 200_000, length: 10 },
        ];
        assert_eq!(ranges, expected);
    }

    #[test]
    fn ids_that_others_have_are_not_granted_again() {
        let cases = [
            ("", 100_000),
            ("ana:100000:65536\n", 165_536),
            ("bob:165536:65536\nana:100000:65536\n", 231_072),
            ("ana:500000:1\n", 100_000),
            ("ana:110000:5\n", 110_005),
        ];
        for (text, expected) in cases {
            assert_eq!(first_free(text), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn the_mapping_is_read_from_the_files_and_missing_grants_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("passwd", &accounts().users);
        write("group", &accounts().groups);
        let files = AccountFiles::below(directory.path());
        let missing = resolve("ana", &files).await.unwrap_err().message();
        assert_eq!(
            missing,
            "Can't create ID mappings: No subuid ranges found for user \"ana\" in /etc/subuid"
        );
        write("subuid", "ana:100000:65536\n");
        write("subgid", "staff:300000:65536\n");
        assert!(resolve("ana", &files).await.is_err());
        assert_eq!(resolve("ana:staff", &files).await.unwrap().root(), (100_000, 300_000));
        assert!(resolve("root", &files).await.unwrap().is_identity());
    }
}
