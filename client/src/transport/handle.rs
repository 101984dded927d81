//! Handles, which group the methods of a client.

/// Defines a handle: a type that borrows a connection, and the attempts of its requests.
macro_rules! handle {
    ($(#[$attribute:meta])* $handle:ident) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug)]
        pub struct $handle<'a> {
            connection: &'a $crate::transport::connection::Connection,
        }

        impl<'a> $handle<'a> {
            pub(crate) fn new(
                connection: &'a $crate::transport::connection::Connection,
            ) -> Self {
                Self { connection }
            }

            fn attempts(self, rpc: &'static str) -> $crate::transport::attempts::Attempts {
                let budget = $crate::options::RetryBudget::Start;
                $crate::transport::attempts::Attempts::new(self.connection, rpc, budget)
            }
        }
    };
}

pub(crate) use handle;
