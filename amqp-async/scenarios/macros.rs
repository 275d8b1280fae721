//! From scenarios to tests: on each broker, in modules whose names say what the test needs.
//!
//! They call `crate::scenarios::MODULE::NAME` by way of `crate::runtime`, so that crates with other scenarios can use them too.

/// Makes tests of them.
macro_rules! scenarios {
    ($($module:ident: $($name:ident)+;)+) => {
        mod embedded {
            $(mod $module {
                $(#[test]
                fn $name() {
                    crate::runtime::on_embedded(crate::scenarios::$module::$name);
                    crate::scenarios::passed(module_path!(), stringify!($name));
                })+
            })+
        }

        mod rabbitmq {
            $(mod $module {
                $(#[test]
                #[ignore = "needs a broker: cargo xtask test"]
                fn $name() {
                    crate::runtime::on_rabbitmq("AMQP_TEST_URL", crate::scenarios::$module::$name);
                    crate::scenarios::passed(module_path!(), stringify!($name));
                })+
            })+

            mod over_tls {
                $(mod $module {
                    $(#[test]
                    #[ignore = "needs a broker: cargo xtask test"]
                    fn $name() {
                        crate::runtime::on_rabbitmq("AMQP_TEST_TLS_URL", crate::scenarios::$module::$name);
                        crate::scenarios::passed(module_path!(), stringify!($name));
                    })+
                })+
            }
        }
    };
}

/// Makes tests of those that need what the embedded broker does not have.
macro_rules! rabbitmq_scenarios {
    ($($module:ident: $($name:ident)+;)+) => {
        mod not_embedded {
            $(mod $module {
                $(#[test]
                #[ignore = "needs RabbitMQ: cargo xtask test"]
                fn $name() {
                    crate::runtime::on_rabbitmq("AMQP_TEST_URL", crate::scenarios::$module::$name);
                    crate::scenarios::passed(module_path!(), stringify!($name));
                })+
            })+
        }
    };
}

/// Makes tests of those for which a broker must fail as RabbitMQ cannot be asked to.
macro_rules! embedded_scenarios {
    ($($module:ident: $($name:ident)+;)+) => {
        mod only_embedded {
            $(mod $module {
                $(#[test]
                fn $name() {
                    crate::runtime::on_embedded(crate::scenarios::$module::$name);
                    crate::scenarios::passed(module_path!(), stringify!($name));
                })+
            })+
        }
    };
}

/// Makes tests of those that disturb everybody, and that need what the module's name says: no other test runs meanwhile on a
/// broker that is not embedded.
macro_rules! disturbing_scenarios {
    ($need:ident { $($module:ident: $($name:ident)+;)+ }) => {
        mod $need {
            mod embedded {
                $(mod $module {
                    $(#[test]
                    fn $name() {
                        crate::runtime::on_embedded(crate::scenarios::$module::$name);
                        crate::scenarios::passed(module_path!(), stringify!($name));
                    })+
                })+
            }

            mod alone {
                $(mod $module {
                    $(#[test]
                    #[ignore = "needs a broker: cargo xtask test"]
                    fn $name() {
                        crate::runtime::on_rabbitmq("AMQP_TEST_URL", crate::scenarios::$module::$name);
                        crate::scenarios::passed(module_path!(), stringify!($name));
                    })+
                })+

                mod over_tls {
                    $(mod $module {
                        $(#[test]
                        #[ignore = "needs a broker: cargo xtask test"]
                        fn $name() {
                            crate::runtime::on_rabbitmq("AMQP_TEST_TLS_URL", crate::scenarios::$module::$name);
                            crate::scenarios::passed(module_path!(), stringify!($name));
                        })+
                    })+
                }
            }
        }
    };
}

/// The same for those that need what the embedded broker does not have.
macro_rules! disturbing_rabbitmq_scenarios {
    ($($need:ident { $($module:ident: $($name:ident)+;)+ })+) => {
        mod with_rabbitmq {
            $(mod $need {
                mod alone {
                    $(mod $module {
                        $(#[test]
                        #[ignore = "needs RabbitMQ: cargo xtask test"]
                        fn $name() {
                            crate::runtime::on_rabbitmq("AMQP_TEST_URL", crate::scenarios::$module::$name);
                            crate::scenarios::passed(module_path!(), stringify!($name));
                        })+
                    })+
                }
            })+
        }
    };
}

/// Makes tests of those that are about TLS.
macro_rules! securing_scenarios {
    ($($name:ident)+; on_rabbitmq: $($need:ident::$only:ident)+) => {
        mod securing {
            mod embedded {
                $(#[test]
                fn $name() {
                    crate::runtime::run(crate::scenarios::securing::$name(crate::scenarios::World::embedded_over_tls()));
                    crate::scenarios::passed(module_path!(), stringify!($name));
                })+
            }

            mod over_tls {
                $(#[test]
                #[ignore = "needs a broker: cargo xtask test"]
                fn $name() {
                    crate::runtime::on_rabbitmq("AMQP_TEST_TLS_URL", crate::scenarios::securing::$name);
                    crate::scenarios::passed(module_path!(), stringify!($name));
                })+

                $(mod $only {
                    mod $need {
                        #[test]
                        #[ignore = "needs a broker: cargo xtask test"]
                        fn on_rabbitmq() {
                            crate::runtime::on_rabbitmq("AMQP_TEST_TLS_URL", crate::scenarios::securing::$only);
                            crate::scenarios::passed(module_path!(), "on_rabbitmq");
                        }
                    }
                })+
            }
        }
    };
}
