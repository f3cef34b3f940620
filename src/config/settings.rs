//! Settings that follow from the declarations of their keys.

/// Does what [`keys!`] does, and also declares a struct with a field for each key that has a default, and a function
/// `read` that reads these keys.
///
/// ```text
/// settings! {
/// /// Settings of listeners.
/// pub struct Listen {
///     /// The bearer token that the admin listener requires.
///     admin_token: Option<SharedSecret>,
/// }
/// ListenKeys = "listen", later ["tls"]; {
///     /// Where callers reach the gateway.
///     address: Vec<SocketAddr> = texts(ADDRESS, address) => vec![loopback(8080)], as addresses, restart listen.addresses;
///     /// 16 to 512 visible ASCII characters.
///     admin_token: String = raw_text(TOKEN);
///     /// Threads that proxy.
///     workers: usize = number(1..=1024) => processors(), restart listen.workers;
/// }}
/// ```
///
/// This declares the keys `ListenKeys`, the struct `Listen` with the fields `admin_token`, `addresses` and `workers`,
/// and the function `Listen::read(reader, admin_token)`. The name of a field follows `as` if it is not that of the key.
///
/// A field whose value needs more than its own key, such as a secret that may be in a file, is declared in the struct
/// itself and is an argument of `read`. Its keys have no default; the section's own function reads them, and checks keys
/// against each other.
///
/// [`keys!`]: crate::config::keys::keys
macro_rules! settings {
    (
        $(#[$attribute:meta])*
        pub struct $settings:ident {$($(#[$given_attribute:meta])* $given:ident: $given_type:ty,)*}
        $keys:ident = $section:literal $(, later $later:tt)?; {$(
            $(#[doc = $doc:literal])*
            $key:ident: $value:ty = $form:expr
                $(=> $default:expr $(, as $field:ident)?)?
                $(, restart $($setting:ident).+)?;
        )*}
    ) => {
        $crate::config::keys::keys! { pub(super) $keys = $section $(, later $later)?; {$(
            $(#[doc = $doc])*
            $key: $value = $form $(=> $default)? $(, restart $($setting).+)?;
        )*}}

        $crate::config::settings::settings! { @struct
            $(#[$attribute])*
            $settings {$($(#[$given_attribute])* $given: $given_type,)*}
            // The field is the first name in brackets.
            $keys = $section {$( $([$($field)? $key] $key: $value,)? )*}
        }
    };
    (@struct
        $(#[$attribute:meta])*
        $settings:ident {$($(#[$given_attribute:meta])* $given:ident: $given_type:ty,)*}
        $keys:ident = $section:literal {$([$field:ident $($other:ident)?] $key:ident: $value:ty,)*}
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $settings {
            $($(#[$given_attribute])* pub $given: $given_type,)*
            $(
                #[doc = concat!("`", $section, ".", stringify!($key), "`, as `config/doorward.toml` explains it.")]
                pub $field: $value,
            )*
        }

        impl $settings {
            /// Reads the keys with defaults. The other fields are given.
            pub(super) fn read(
                reader: &mut $crate::config::reader::SectionReader<'_>,
                $($given: $given_type,)*
            ) -> Self {
                Self {
                    $($given,)*
                    $($field: reader.get(&$keys::$key),)*
                }
            }
        }
    };
}
pub(super) use settings;
