//! Operations as data: which method and path leads to which handler, and what each takes and gives.
//!
//! Start reading at [`Route`]. Every noun in `routes` contributes its part. axum's router (`router`) and the description in
//! `swagger/` are both made from the list, so an operation cannot exist in one alone. Paths are axum's: `{name}` is one
//! segment; how names with slashes become one is in `names`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use http::Method;

use crate::extract::Call;
use crate::reply::Outcome;
use crate::schema::{Described, SchemaOf};
use crate::version::ApiVersion;

/// A handler on its way to an answer.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Outcome> + Send>>;

type Handler = Box<dyn Fn(Call) -> Answer + Send + Sync>;

/// One operation.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) pattern: &'static str,
    pub(crate) about: About,
    handler: Handler,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.method, self.pattern, self.about.id)
    }
}

/// What is told of an operation beside its path.
#[derive(Debug, Default)]
pub(crate) struct About {
    /// Docker's name of the operation.
    pub(crate) id: &'static str,
    /// The noun it belongs to.
    pub(crate) tag: &'static str,
    /// One sentence.
    pub(crate) summary: &'static str,
    /// The oldest version that has it, if that is checked.
    pub(crate) since: Option<u16>,
    /// Query parameters and headers.
    pub(crate) params: Vec<Param>,
    /// The body that is sent.
    pub(crate) body: Option<BodyKind>,
    /// Statuses with their bodies.
    pub(crate) replies: Vec<(u16, BodyKind)>,
    /// Statuses of failures.
    pub(crate) failures: Vec<u16>,
    /// How far the operation goes.
    pub(crate) support: Support,
}

/// How far an operation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Support {
    /// All of it.
    #[default]
    Full,
    /// Answered with the status and reason that Docker gives where the feature is absent.
    Refused,
}

/// A parameter outside the path and the body.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "schema"), expect(dead_code, reason = "only the description reads all of it"))]
pub(crate) struct Param {
    pub(crate) place: ParamPlace,
    pub(crate) name: &'static str,
    pub(crate) kind: ParamKind,
    pub(crate) doc: &'static str,
    pub(crate) since: Option<u16>,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParamPlace {
    Query,
    Header,
}

/// What a parameter holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParamKind {
    /// True unless empty, `0`, `no`, `false` or `none`.
    Flag,
    /// A whole number.
    Integer,
    /// A text.
    Text,
    /// A text that may be given several times.
    Texts,
}

/// What a body holds.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "schema"), expect(dead_code, reason = "only the description reads all of it"))]
pub(crate) enum BodyKind {
    /// Nothing.
    None,
    /// JSON of this shape.
    Json(SchemaOf),
    /// A text.
    Text,
    /// Bytes of this content type.
    Bytes(&'static str),
    /// JSON objects of this shape, one after the other.
    JsonStream(SchemaOf),
    /// The connection is taken over.
    Hijack,
}

impl fmt::Debug for BodyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Json(_) => "Json",
            Self::Text => "Text",
            Self::Bytes(_) => "Bytes",
            Self::JsonStream(_) => "JsonStream",
            Self::Hijack => "Hijack",
        })
    }
}

impl Route {
    fn new<F, A>(method: Method, pattern: &'static str, handler: F) -> Self
    where
        F: Fn(Call) -> A + Send + Sync + 'static,
        A: Future<Output = Outcome> + Send + 'static,
    {
        let handler: Handler = Box::new(move |call| Box::pin(handler(call)));
        Self { method, pattern, about: About::default(), handler }
    }

    /// Puts the operation under a noun.
    pub(crate) fn tagged(mut self, noun: &'static str) -> Self {
        self.about.tag = noun;
        self
    }

    /// Names the operation, and says in one sentence what it does.
    pub(crate) fn about(mut self, id: &'static str, summary: &'static str) -> Self {
        self.about.id = id;
        self.about.summary = summary;
        self
    }

    /// Refuses it below version 1.`minor`.
    pub(crate) fn since(mut self, minor: u16) -> Self {
        self.about.since = Some(minor);
        self
    }

    fn param(mut self, place: ParamPlace, name: &'static str, kind: ParamKind, doc: &'static str) -> Self {
        self.about.params.push(Param { place, name, kind, doc, since: None });
        self
    }

    /// Takes a query parameter.
    pub(crate) fn query(self, name: &'static str, kind: ParamKind, doc: &'static str) -> Self {
        self.param(ParamPlace::Query, name, kind, doc)
    }

    /// Takes a truth value in the query.
    pub(crate) fn flag(self, name: &'static str, doc: &'static str) -> Self {
        self.query(name, ParamKind::Flag, doc)
    }

    /// Takes a text in the query.
    pub(crate) fn text(self, name: &'static str, doc: &'static str) -> Self {
        self.query(name, ParamKind::Text, doc)
    }

    /// Takes a header.
    pub(crate) fn header(self, name: &'static str, doc: &'static str) -> Self {
        self.param(ParamPlace::Header, name, ParamKind::Text, doc)
    }

    /// Takes filters in the query.
    pub(crate) fn filters(self, doc: &'static str) -> Self {
        self.query("filters", ParamKind::Text, doc)
    }

    /// The parameter named last exists from version 1.`minor` on.
    pub(crate) fn from(mut self, minor: u16) -> Self {
        if let Some(param) = self.about.params.last_mut() {
            param.since = Some(minor);
        }
        self
    }

    /// Takes a JSON body.
    pub(crate) fn takes<T: Described>(mut self) -> Self {
        self.about.body = Some(BodyKind::Json(SchemaOf::of::<T>()));
        self
    }

    /// Takes bytes.
    pub(crate) fn takes_bytes(mut self, content_type: &'static str) -> Self {
        self.about.body = Some(BodyKind::Bytes(content_type));
        self
    }

    /// Gives JSON with this status.
    pub(crate) fn gives<T: Described>(self, status: u16) -> Self {
        self.gives_body(status, BodyKind::Json(SchemaOf::of::<T>()))
    }

    /// Gives a stream of JSON objects with status 200.
    pub(crate) fn streams<T: Described>(self) -> Self {
        self.gives_body(200, BodyKind::JsonStream(SchemaOf::of::<T>()))
    }

    /// Gives this with this status.
    pub(crate) fn gives_body(mut self, status: u16, body: BodyKind) -> Self {
        self.about.replies.push((status, body));
        self
    }

    /// Gives nothing but this status.
    pub(crate) fn gives_nothing(self, status: u16) -> Self {
        self.gives_body(status, BodyKind::None)
    }

    /// Fails with these statuses, 500 always.
    pub(crate) fn fails(mut self, statuses: &[u16]) -> Self {
        self.about.failures.extend_from_slice(statuses);
        self
    }

    /// Is answered, but does nothing.
    pub(crate) fn refused(mut self) -> Self {
        self.about.support = Support::Refused;
        self
    }

    /// Whether a version has the operation.
    pub(crate) fn is_in(&self, version: ApiVersion) -> bool {
        self.about.since.is_none_or(|minor| version.is_from(minor))
    }

    /// Runs the handler.
    pub(crate) fn call(&self, call: Call) -> Answer {
        (self.handler)(call)
    }
}

/// Declares one constructor for each method.
macro_rules! methods {
    ($($name:ident $method:ident;)*) => {$(
        #[doc = concat!("An operation with method ", stringify!($method), ".")]
        pub(crate) fn $name<F, A>(pattern: &'static str, handler: F) -> Route
        where
            F: Fn(Call) -> A + Send + Sync + 'static,
            A: Future<Output = Outcome> + Send + 'static,
        {
            Route::new(Method::$method, pattern, handler)
        }
    )*};
}

methods! {
    get GET;
    head HEAD;
    post POST;
    put PUT;
    delete DELETE;
}
