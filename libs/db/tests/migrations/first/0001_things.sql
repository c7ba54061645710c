-- For tests of the migrator of control schemas.
CREATE TABLE things (
    id bigint NOT NULL,
    CONSTRAINT things_pkey PRIMARY KEY (id)
);
GRANT SELECT, INSERT ON things TO rowhouse_ctl_tenant;
