//! Which column holds users, which items, and so on: by flag, by known names, by position.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Column, ReadError, ReadOptions};
use crate::nearest::did_you_mean;

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// User id.
    User,
    /// Item id.
    Item,
    /// Time of the interaction.
    Time,
    /// Weight, such as a rating.
    Weight,
    /// Type of the event, such as `click`.
    Event,
    /// A column of context, such as the device.
    Context,
}

impl Role {
    /// The command's flag that names the column.
    pub fn flag(self) -> &'static str {
        match self {
            Self::User => "--user-column",
            Self::Item => "--item-column",
            Self::Time => "--time-column",
            Self::Weight => "--weight-column",
            Self::Event => "--event-column",
            Self::Context => "--context",
        }
    }

    /// Names by which the column is recognised without a flag, best first, as [`plain`] writes them.
    fn known_names(self) -> &'static [&'static str] {
        match self {
            Self::User => &[
                "user",
                "userid",
                "uid",
                "visitor",
                "visitorid",
                "customer",
                "customerid",
                "client",
                "clientid",
                "account",
                "accountid",
                "member",
                "memberid",
                "reviewer",
                "reviewerid",
            ],
            Self::Item => &[
                "item",
                "itemid",
                "iid",
                "product",
                "productid",
                "movie",
                "movieid",
                "track",
                "trackid",
                "song",
                "songid",
                "artist",
                "artistid",
                "book",
                "bookid",
                "isbn",
                "video",
                "videoid",
                "article",
                "articleid",
                "news",
                "newsid",
                "business",
                "businessid",
                "spot",
                "spotid",
                "location",
                "locationid",
                "venue",
                "venueid",
                "poi",
                "poiid",
                "asin",
                "sku",
            ],
            Self::Time => &[
                "timestamp",
                "timestamps",
                "time",
                "ts",
                "unixtime",
                "unixreviewtime",
                "unixtimestamp",
                "datetime",
                "eventtime",
                "eventtimestamp",
                "createdat",
                "date",
            ],
            Self::Weight => &["weight", "rating"],
            Self::Event => &["event", "eventtype"],
            Self::Context => &[],
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Item => "item",
            Self::Time => "time",
            Self::Weight => "weight",
            Self::Event => "event",
            Self::Context => "context",
        })
    }
}

/// One thing for each role that is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles<T> {
    /// User ids.
    pub user: T,
    /// Item ids.
    pub item: T,
    /// Times, if they are read.
    pub time: Option<T>,
    /// Weights, if they are read.
    pub weight: Option<T>,
    /// Event types, if they are read.
    pub event: Option<T>,
    /// Columns of context.
    pub context: Vec<T>,
}

impl<T> Roles<T> {
    /// Translates each.
    pub(super) fn map<U>(&self, mut f: impl FnMut(&T) -> U) -> Roles<U> {
        Roles {
            user: f(&self.user),
            item: f(&self.item),
            time: self.time.as_ref().map(&mut f),
            weight: self.weight.as_ref().map(&mut f),
            event: self.event.as_ref().map(&mut f),
            context: self.context.iter().map(&mut f).collect(),
        }
    }

    /// Those there are.
    pub(super) fn each(&self) -> impl Iterator<Item = (Role, &T)> {
        self.fixed().chain(self.context.iter().map(|value| (Role::Context, value)))
    }

    /// Those there are but for context.
    pub(super) fn fixed(&self) -> impl Iterator<Item = (Role, &T)> {
        [
            (Role::User, Some(&self.user)),
            (Role::Item, Some(&self.item)),
            (Role::Time, self.time.as_ref()),
            (Role::Weight, self.weight.as_ref()),
            (Role::Event, self.event.as_ref()),
        ]
        .into_iter()
        .filter_map(|(role, value)| Some((role, value?)))
    }
}

/// The column asked for by flag, but for context.
pub(super) fn asked(options: &ReadOptions, role: Role) -> Option<&Column> {
    match role {
        Role::User => options.user.as_ref(),
        Role::Item => options.item.as_ref(),
        Role::Time => options.time.as_ref(),
        Role::Weight => options.weight.as_ref(),
        Role::Event => options.event.as_ref(),
        Role::Context => None,
    }
}

/// A name as known names are written: lower case, without spaces, `_` and `-`.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

/// The column that is recognised as `role` among `names`.
pub(super) fn recognise(role: Role, names: &[String]) -> Option<usize> {
    let names: Vec<String> = names.iter().map(|name| plain(name)).collect();
    role.known_names().iter().find_map(|known| names.iter().position(|name| name == known))
}

/// Whether the fields of a first line are names rather than values: none is a number, and one is a known name of some
/// role. Bare nouns for items (`book`, `news`) do not tell, for they are common values of a category column.
pub(super) fn looks_like_header(fields: &[String]) -> bool {
    let tells = |role: Role, name: &String| {
        role.known_names().contains(&name.as_str()) && (role != Role::Item || name == "item" || name.ends_with("id"))
    };
    let roles = [Role::User, Role::Item, Role::Time, Role::Weight, Role::Event];
    fields.iter().all(|field| field.trim().parse::<f64>().is_err())
        && fields.iter().map(|field| plain(field)).any(|name| roles.into_iter().any(|role| tells(role, &name)))
}

/// Finds the 0-based columns among `names`: those of the header, or where there is none the values of the first record.
///
/// A flag decides. Without one, a user, item or time column is recognised by its name in the header. If neither users
/// nor items can be recognised they are columns 1 and 2. Weights and events are read only by flag.
pub(super) fn resolve(
    source: &str,
    options: &ReadOptions,
    names: &[String],
    header: bool,
) -> Result<Roles<usize>, ReadError> {
    let missing = |role, wanted| ReadError::MissingColumn {
        name: source.into(),
        role,
        wanted,
        available: available(names, header),
    };
    let find = |role, column: Option<&Column>| match column {
        None => Ok(None),
        Some(Column::Name(name)) if !header => {
            Err(ReadError::NoHeader { name: source.into(), role, column: name.clone() })
        }
        Some(Column::Name(name)) => names
            .iter()
            .position(|n| n == name)
            .or_else(|| names.iter().position(|n| n.trim() == name.trim()))
            .map(Some)
            .ok_or_else(|| missing(role, format!("there is no column '{name}'{}", guess(name, names)))),
        Some(&Column::Position(position)) if position == 0 || position > names.len() => {
            Err(missing(role, format!("there is no column {position}")))
        }
        Some(&Column::Position(position)) => Ok(Some(position - 1)),
    };
    let by_flag = |role| find(role, asked(options, role));
    let by_name = |role| if header { recognise(role, names) } else { None };

    let user = by_flag(Role::User)?;
    let item = by_flag(Role::Item)?;
    let named_user = user.or_else(|| by_name(Role::User));
    let named_item = item.or_else(|| by_name(Role::Item));
    // Positions stand in only where nothing is known by name, or the flags are positions themselves.
    let by_position = !header || (by_name(Role::User).is_none() && by_name(Role::Item).is_none());
    let place = |named: Option<usize>, role, position: usize| match named {
        Some(column) => Ok(column),
        None if by_position && position < names.len() => Ok(position),
        None => Err(missing(role, format!("no {role} column found"))),
    };
    let user = place(named_user, Role::User, 0)?;
    let item = place(named_item, Role::Item, 1)?;
    if user == item {
        let column = if header { names[user].clone() } else { (user + 1).to_string() };
        return Err(ReadError::SameColumn { name: source.into(), column });
    }
    Ok(Roles {
        user,
        item,
        time: by_flag(Role::Time)?.or_else(|| by_name(Role::Time)),
        weight: by_flag(Role::Weight)?,
        event: by_flag(Role::Event)?,
        context: options
            .context
            .iter()
            .filter_map(|c| find(Role::Context, Some(c)).transpose())
            .collect::<Result<_, _>>()?,
    })
}

/// The nearest to a name that is not there.
fn guess(name: &str, names: &[String]) -> String {
    did_you_mean(name, names.iter().map(String::as_str)).map_or(String::new(), |guess| format!(", {guess}"))
}

/// The columns there are, for messages; at most 40 of them.
pub(super) fn available(names: &[String], header: bool) -> String {
    if names.is_empty() {
        return "there are no columns".into();
    }
    let quoted = |name: &String| format!("'{}'", super::row::excerpt(name.as_bytes()));
    let mut list = names.iter().take(40).map(quoted).collect::<Vec<_>>().join(", ");
    if names.len() > 40 {
        list.push_str(", …");
    }
    if header {
        format!("its {} columns are {list}", names.len())
    } else {
        format!("its first line has {} fields and no header: {list}", names.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> Vec<String> {
        line.split(',').map(String::from).collect()
    }

    fn found(options: &ReadOptions, line: &str, header: bool) -> Result<(usize, usize, Option<usize>), String> {
        let roles = resolve("log", options, &names(line), header).map_err(|e| e.to_string())?;
        Ok((roles.user, roles.item, roles.time))
    }

    #[test]
    fn known_names_are_recognised_in_any_order_and_case() {
        let options = ReadOptions::default();
        assert_eq!(found(&options, "user,spot,timestamp", true), Ok((0, 1, Some(2))));
        assert_eq!(found(&options, "timestamp,visitorid,event,itemid", true), Ok((1, 3, Some(0))));
        assert_eq!(found(&options, "userId,movieId,rating,timestamp", true), Ok((0, 1, Some(3))));
        assert_eq!(found(&options, "Date,Product ID,CUSTOMER-ID", true), Ok((2, 1, Some(0))));
        assert_eq!(found(&options, "a,b,c", true), Ok((0, 1, None)));
        assert_eq!(found(&options, "u1,i1,77", false), Ok((0, 1, None)));
    }

    #[test]
    fn flags_win() {
        let options = ReadOptions { user: Some(Column::Position(3)), ..Default::default() };
        assert_eq!(found(&options, "x,y,z", false), Ok((2, 1, None)));
        let options = ReadOptions { user: Some(Column::Name("z".into())), time: Some(Column::Position(1)), ..options };
        assert_eq!(found(&options, "x,y,z", true), Ok((2, 1, Some(0))));
    }

    #[test]
    fn what_is_missing_is_said_with_what_is_there() {
        let options = ReadOptions { weight: Some(Column::Name("stars".into())), ..Default::default() };
        let text = found(&options, "user,item,time", true).unwrap_err();
        assert_eq!(
            text,
            "log: there is no column 'stars'; its 3 columns are 'user', 'item', 'time'; \
             name the weight column by --weight-column"
        );
        assert!(found(&options, "user,item,star", true).unwrap_err().contains("'stars', did you mean \"star\"?"));
        let text = found(&ReadOptions::default(), "user,thing", true).unwrap_err();
        assert!(text.contains("no item column found") && text.contains("--item-column"), "{text}");
        assert!(found(&options, "a,b", false).unwrap_err().contains("no header"));
        let options = ReadOptions { item: Some(Column::Position(4)), ..Default::default() };
        assert!(found(&options, "a,b,c", false).unwrap_err().contains("there is no column 4; its first line has 3"));
        let options = ReadOptions { user: Some(Column::Position(2)), ..Default::default() };
        assert!(found(&options, "a,b,c", false).unwrap_err().contains("both be read from column 2"));
        assert!(found(&ReadOptions::default(), "a", false).unwrap_err().contains("no item column"));
    }

    #[test]
    fn headers_are_told_from_values() {
        assert!(looks_like_header(&names("userId,movieId,rating")));
        assert!(looks_like_header(&names("a,b,timestamp")));
        assert!(looks_like_header(&names("who,Item-ID,when")));
        assert!(!looks_like_header(&names("u1,i1,1700000000")));
        assert!(!looks_like_header(&names("u1,i1,book")));
        assert!(!looks_like_header(&names("member,i1,5")));
    }
}
