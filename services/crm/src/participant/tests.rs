//! Orders of the tenant service against a real data server.
