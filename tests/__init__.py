"""The proof: unit, contract, engine, scenario and laboratory tests."""
