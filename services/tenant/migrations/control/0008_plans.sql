-- Plans, and which one each tenant has.
--
-- Why: nothing bounded what a tenant uses.
-- Locks: tenant.tenants and tenant.homes, exclusively, for an instant (columns with a constant default) and while the new
-- foreign key is checked and its index built.
-- Safe for old code: yes; it names none of the columns, and every tenant is on a plan that bounds nothing.

SET LOCAL lock_timeout = '5s';

CREATE TABLE tenant.plans (
    name         text        NOT NULL,
    display_name text        NOT NULL,
    -- The fields of rowhouse.common.v1.Limits that hold.
    limits       jsonb       NOT NULL,
    revision     bigint      NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT plans_pkey PRIMARY KEY (name),
    CONSTRAINT plans_name_check CHECK (name ~ '^[a-z][a-z0-9-]{0,39}$'),
    CONSTRAINT plans_display_name_check CHECK (char_length(display_name) BETWEEN 1 AND 200),
    CONSTRAINT plans_limits_check CHECK (jsonb_typeof(limits) = 'object'),
    CONSTRAINT plans_revision_check CHECK (revision >= 1)
);

-- Without bounds, so that nothing changes for those who are there; operators give it some, or make other plans.
INSERT INTO tenant.plans (name, display_name, limits) VALUES ('standard', 'Standard', '{}');

ALTER TABLE tenant.tenants
    ADD COLUMN plan text NOT NULL DEFAULT 'standard',
    ADD COLUMN limit_overrides jsonb NOT NULL DEFAULT '{}',
    ADD CONSTRAINT tenants_plan_fkey FOREIGN KEY (plan) REFERENCES tenant.plans (name),
    ADD CONSTRAINT tenants_limit_overrides_check CHECK (jsonb_typeof(limit_overrides) = 'object');
CREATE INDEX tenants_plan_idx ON tenant.tenants (plan);

-- What the participant has confirmed, so that what is due can be told.
ALTER TABLE tenant.homes ADD COLUMN statement_timeout_ms integer NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON tenant.plans TO rowhouse_ctl_tenant;
