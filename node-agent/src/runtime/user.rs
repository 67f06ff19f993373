//! PURE. Whom a container runs as: `user[:group]` and further groups, looked up among the container's own accounts.
//!
//! Start reading at [`resolve`]. The rules and the texts are those of Docker (of runc's user package): a name must be known, a
//! number need not be.

use crate::error::NodeError;

/// The files that hold accounts, inside a container.
pub(crate) const FILES: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// Largest id; Docker takes ids as signed numbers.
const MAX_ID: u32 = i32::MAX.unsigned_abs();

/// Whom a process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct User {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Supplementary groups, the group itself first.
    pub(crate) groups: Vec<u32>,
}

/// The accounts of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Accounts {
    users: Vec<Account>,
    groups: Vec<Group>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl Accounts {
    /// Reads the content of [`FILES`]; a missing file knows nobody, and lines that are not understood are skipped.
    pub(crate) fn parse(files: &[Option<Vec<u8>>]) -> Self {
        let text = |index: usize| {
            files.get(index).and_then(Option::as_deref).map(String::from_utf8_lossy).unwrap_or_default()
        };
        Self {
            users: text(0).lines().filter_map(parse_account).collect(),
            groups: text(1).lines().filter_map(parse_group).collect(),
        }
    }
}

fn parse_account(line: &str) -> Option<Account> {
    let mut fields = line.trim().split(':');
    let name = fields.next()?.to_owned();
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Account { name, uid, gid })
}

fn parse_group(line: &str) -> Option<Group> {
    let mut fields = line.trim().split(':');
    let name = fields.next()?.to_owned();
    let gid = fields.nth(1)?.parse().ok()?;
    let members = fields.next().unwrap_or_default().split(',').filter(|member| !member.is_empty());
    Some(Group { name, gid, members: members.map(str::to_owned).collect() })
}

/// Finds out whom `user[:group]` means; empty means root. `additional` are names or numbers of further groups.
pub(crate) fn resolve(user: &str, additional: &[String], accounts: &Accounts) -> Result<User, NodeError> {
    let (user, group) = user.split_once(':').unwrap_or((user, ""));
    let number = number_of(user)?;
    let account = accounts.users.iter().find(|account| {
        if user.is_empty() { account.uid == 0 } else { account.name == user || number == Some(account.uid) }
    });
    let (uid, mut gid) = match (account, number) {
        (Some(account), _) => (account.uid, account.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) if user.is_empty() => (0, 0),
        (None, None) => {
            return Err(NodeError::invalid(format!(
                "unable to find user {user}: no matching entries in passwd file"
            )));
        }
    };
    let mut memberships = Vec::new();
    if !group.is_empty() {
        gid = find_group(group, accounts)?.ok_or_else(|| {
            NodeError::invalid(format!("unable to find group {group}: no matching entries in group file"))
        })?;
    } else if let Some(account) = account {
        let is_member = |group: &&Group| group.members.contains(&account.name);
        memberships.extend(accounts.groups.iter().filter(is_member).map(|group| group.gid));
    }
    let mut groups = vec![gid];
    groups.extend(memberships);
    for name in additional {
        let gid = find_group(name, accounts)?.ok_or_else(|| {
            NodeError::invalid(format!("Unable to find group {name}: no matching entries in group file"))
        })?;
        groups.push(gid);
    }
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|gid| seen.insert(*gid));
    Ok(User { uid, gid, groups })
}

fn find_group(wanted: &str, accounts: &Accounts) -> Result<Option<u32>, NodeError> {
    let number = number_of(wanted)?;
    let known = accounts.groups.iter().find(|group| group.name == wanted || number == Some(group.gid));
    Ok(known.map(|group| group.gid).or(number))
}

fn number_of(text: &str) -> Result<Option<u32>, NodeError> {
    if text.is_empty() || text.bytes().any(|byte| !byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(number) if number <= MAX_ID => Ok(Some(number)),
        _ => Err(NodeError::invalid(format!("uids and gids must be in range 0-{MAX_ID}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\nnonsense\n";
        let group = b"root:x:0:root\nstaff:x:50:app,other\nwheel:x:10:root,app\nbad:x:y:\n";
        Accounts::parse(&[Some(passwd.to_vec()), Some(group.to_vec())])
    }

    fn ids(user: &str, additional: &[&str]) -> (u32, u32, Vec<u32>) {
        let additional: Vec<String> = additional.iter().map(|&name| name.to_owned()).collect();
        let user = resolve(user, &additional, &accounts()).unwrap();
        (user.uid, user.gid, user.groups)
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        assert_eq!(ids("", &[]), (0, 0, vec![0, 10]));
        assert_eq!(ids("root", &[]), (0, 0, vec![0, 10]));
        assert_eq!(ids("app", &[]), (1000, 1001, vec![1001, 50, 10]));
        assert_eq!(ids("1000", &[]), (1000, 1001, vec![1001, 50, 10]));
        assert_eq!(ids("4242", &[]), (4242, 0, vec![0]));
        assert_eq!(ids("4242:77", &[]), (4242, 77, vec![77]));
        assert_eq!(ids("1000:wheel", &["staff", "77", "10"]), (1000, 10, vec![10, 50, 77]));
    }

    #[test]
    fn unknown_names_are_refused_with_dockers_words() {
        let cases = [
            ("nobody", "unable to find user nobody: no matching entries in passwd file"),
            ("app:nobody", "unable to find group nobody: no matching entries in group file"),
            ("4294967295", "uids and gids must be in range 0-2147483647"),
            ("99999999999999", "uids and gids must be in range 0-2147483647"),
        ];
        for (user, message) in cases {
            assert_eq!(resolve(user, &[], &accounts()).unwrap_err().to_string(), message);
        }
        let error = resolve("", &["nope".to_owned()], &accounts()).unwrap_err().to_string();
        assert_eq!(error, "Unable to find group nope: no matching entries in group file");
    }

    #[test]
    fn a_container_without_accounts_runs_numbers() {
        let none = Accounts::parse(&[None, None]);
        assert_eq!(resolve("", &[], &none).unwrap(), User { uid: 0, gid: 0, groups: vec![0] });
        assert_eq!(resolve("7:8", &[], &none).unwrap(), User { uid: 7, gid: 8, groups: vec![8] });
        assert!(resolve("root", &[], &none).is_err());
    }
}
