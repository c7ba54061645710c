-- A second factor for accounts (TOTP, RFC 6238), and policies of tenants about their members' log-ins.
--
-- Locks: for an instant sessions and account_mails against everything (a column with a constant default rewrites nothing,
-- and of mails there are few), identities and tenants against writes. Safe for old code: it asks nobody for a second factor, so
-- let nobody set one up before it is gone.

SET LOCAL lock_timeout = '5s';

CREATE TABLE auth.second_factors (
    identity_id uuid NOT NULL,
    -- Sealed (AES-256-GCM) under a key derived from the master key, with the person's id as associated data.
    sealed_secret bytea NOT NULL,
    -- Null until the person has shown that they can make codes of it.
    confirmed_at timestamptz,
    -- The step of the last code that was taken: a code is good once.
    last_step bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT second_factors_pkey PRIMARY KEY (identity_id),
    CONSTRAINT second_factors_identity FOREIGN KEY (identity_id) REFERENCES auth.identities (id) ON DELETE CASCADE
);

-- What stands in for a lost device: SHA-256 of 80 random bits each, good once.
CREATE TABLE auth.recovery_codes (
    identity_id uuid NOT NULL,
    code_hash bytea NOT NULL,
    used_at timestamptz,
    CONSTRAINT recovery_codes_pkey PRIMARY KEY (identity_id, code_hash),
    CONSTRAINT recovery_codes_factor FOREIGN KEY (identity_id)
        REFERENCES auth.second_factors (identity_id) ON DELETE CASCADE
);

-- Whether the person has shown their second factor in this session, or in the one that it was opened from.
ALTER TABLE auth.sessions ADD COLUMN second_factor boolean NOT NULL DEFAULT false;

-- A tenant without a row has no policy of its own.
CREATE TABLE auth.login_policies (
    tenant_id uuid NOT NULL,
    second_factor_required boolean NOT NULL DEFAULT false,
    -- How long after its log-in a session gives rights here; null: as long as it lasts.
    session_lifetime_s bigint,
    -- Domains that members' addresses must have, in lower case; empty: any.
    mail_domains text[] NOT NULL DEFAULT '{}',
    -- Shortest password that members may choose, in characters; null: the platform's.
    password_length_min int,
    revision bigint NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT login_policies_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT login_policies_tenant FOREIGN KEY (tenant_id) REFERENCES auth.tenants (id) ON DELETE CASCADE,
    CONSTRAINT login_policies_session_lifetime CHECK (session_lifetime_s BETWEEN 900 AND 7776000),
    CONSTRAINT login_policies_mail_domains CHECK (cardinality(mail_domains) <= 50),
    CONSTRAINT login_policies_password_length CHECK (password_length_min BETWEEN 12 AND 64)
);

-- Persons are told when one is switched on or off.
ALTER TABLE auth.account_mails DROP CONSTRAINT account_mails_kind;
ALTER TABLE auth.account_mails ADD CONSTRAINT account_mails_kind CHECK (kind IN (
    'password_reset', 'email_change', 'password_changed', 'email_changed', 'second_factor_on', 'second_factor_off'
));

GRANT SELECT, INSERT, UPDATE, DELETE ON auth.second_factors, auth.recovery_codes, auth.login_policies TO rowhouse_ctl_auth;
