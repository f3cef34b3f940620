//! Enums with a row of constants for each variant.

/// Declares an enum, its row function and its column functions, so that no variant lacks a row.
///
/// If no variant holds a value, the enum has `ALL`.
macro_rules! table {
    (
        $(#[$about:meta])*
        pub enum $name:ident {
            $($(#[$doc:meta])* $variant:ident => $row:expr,)*
        }
        $(#[$about_row:meta])*
        $vis:vis fn $row_of:ident() -> $type:ty;
        $($(#[$about_column:meta])* $column_vis:vis fn $column:ident() -> $column_type:ty = row.$index:tt;)*
    ) => {
        $crate::model::table::table! {
            $(#[$about])*
            pub enum $name {
                $($(#[$doc])* $variant() => $row,)*
            }
            $(#[$about_row])*
            $vis fn $row_of() -> $type;
            $($(#[$about_column])* $column_vis fn $column() -> $column_type = row.$index;)*
        }

        impl $name {
            /// Every variant once, in the order of declaration.
            pub const ALL: [Self; [$(stringify!($variant)),*].len()] = [$(Self::$variant),*];
        }
    };
    (
        $(#[$about:meta])*
        pub enum $name:ident {
            $($(#[$doc:meta])* $variant:ident $(($($held:ident: $holds:ty)?))? => $row:expr,)*
        }
        $(#[$about_row:meta])*
        $vis:vis fn $row_of:ident() -> $type:ty;
        $($(#[$about_column:meta])* $column_vis:vis fn $column:ident() -> $column_type:ty = row.$index:tt;)*
    ) => {
        $(#[$about])*
        pub enum $name {
            $($(#[$doc])* $variant $($(($holds))?)?,)*
        }

        impl $name {
            $(#[$about_row])*
            #[must_use]
            $vis const fn $row_of(self) -> $type {
                match self {
                    $(Self::$variant $($(($held))?)? => $row,)*
                }
            }

            $(
                $(#[$about_column])*
                #[must_use]
                $column_vis const fn $column(self) -> $column_type {
                    self.$row_of().$index
                }
            )*
        }
    };
}

pub(in crate::model) use table;
