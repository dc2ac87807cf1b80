"""Our route-server scenarios against any BGP speaker (design note 0010)."""
