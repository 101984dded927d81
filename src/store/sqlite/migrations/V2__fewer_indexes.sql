-- Sessions with live calls are found through the index of live calls: one page less in every
-- commit that starts or ends a call.
DROP INDEX sessions_live;
