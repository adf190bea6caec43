//! What each error code of MongoDB means for an operation of the store: one table, in groups with a reason each.
//!
//! The named codes are those of the server's `src/mongo/base/error_codes.yml` (master of November 2026, with the names
//! of older releases that the list keeps). Codes without a name there are the server's assertions about documents that
//! an index or a limit refuses. A code that is not in the table is [`Class::Other`].

use tierkeep_core::store::Class;

use super::{FailureKind, Indexed};

/// Codes that mean the same to a caller, with their names.
pub(super) struct Group {
    pub(super) kind: FailureKind,
    pub(super) codes: &'static [(i32, &'static str)],
}

/// What the server's code means.
pub(crate) fn kind(code: i32) -> FailureKind {
    GROUPS
        .iter()
        .find(|group| group.codes.iter().any(|(listed, _)| *listed == code))
        .map_or(FailureKind::Operation(Class::Other), |group| group.kind)
}

const fn operation(class: Class, codes: &'static [(i32, &'static str)]) -> Group {
    Group {
        kind: FailureKind::Operation(class),
        codes,
    }
}

const fn document(reason: &'static str, codes: &'static [(i32, &'static str)]) -> Group {
    Group {
        kind: FailureKind::Document(reason),
        codes,
    }
}

const fn index(
    kind: Indexed,
    reason: &'static str,
    codes: &'static [(i32, &'static str)],
) -> Group {
    Group {
        kind: FailureKind::Index(kind, reason),
        codes,
    }
}

/// Every code that is decided, each in one group.
#[rustfmt::skip]
pub(super) const GROUPS: &[Group] = &[
    // Nothing ran: the server looks whether it is the primary before it begins, and a router found no primary to send the
    // operation to. A caller may repeat it without counting it as perhaps applied.
    operation(Class::NotPrimary, &[
        (133, "FailedToSatisfyReadPreference"), (10_058, "LegacyNotPrimary"), (10_107, "NotWritablePrimary"),
        (13_435, "NotPrimaryNoSecondaryOk"), (13_436, "NotPrimaryOrSecondary"),
    ]),
    // The server stops, starts or changes its state. Each of these can end an operation that is under way, also while it
    // waits for a majority: it may have run.
    operation(Class::Transition, &[
        (91, "ShutdownInProgress"), (94, "NotYetInitialized"), (109, "ConfigurationInProgress"),
        (134, "ReadConcernMajorityNotAvailableYet"), (189, "PrimarySteppedDown"), (203, "ShardingStateNotInitialized"),
        (216, "ElectionInProgress"), (281, "TransactionCoordinatorSteppingDown"), (303, "SplitHorizonChange"),
        (308, "CurrentConfigNotCommittedYet"), (310, "PeriodicJobIsStopped"), (333, "ServiceExecutorInShutdown"),
        (355, "InterruptedDueToStorageChange"), (372, "CloseConnectionForShutdownCommand"),
        (398, "StreamTerminated"), (11_600, "InterruptedAtShutdown"), (11_602, "InterruptedDueToReplStateChange"),
        (10_045_600, "InterruptedDueToFCVChange"),
    ]),
    // A page's cursor is gone with its server, its session or its plan: the page is read again.
    operation(Class::Transition, &[
        (43, "CursorNotFound"), (175, "QueryPlanKilled"), (237, "CursorKilled"), (314, "ObjectIsBusy"),
    ]),
    // The connection broke: between client and server, or between a router and a shard. It may have run.
    operation(Class::Refused, &[
        (6, "HostUnreachable"), (7, "HostNotFound"), (74, "NodeNotFound"), (90, "CallbackCanceled"),
        (141, "SSLHandshakeFailed"), (145, "PooledConnectionsDropped"), (172, "TransportSessionClosed"),
        (173, "TransportSessionNotFound"), (174, "TransportSessionUnknown"), (190, "MasterSlaveConnectionFailure"),
        (223, "IllegalOpMsgFlag"), (230, "DNSHostNotFound"), (231, "DNSProtocolError"),
        (233, "TooManyDocumentSequences"), (240, "DNSRecordTypeMismatch"), (279, "ClientDisconnect"),
        (288, "ChecksumMismatch"), (317, "ConnectionPoolExpired"), (382, "RemoteCommandExecutionError"),
        (384, "ConnectionError"), (9001, "SocketException"), (56_846, "ConfigServerUnreachable"),
        (91_331, "RetriableRemoteCommandFailure"),
    ]),
    // No answer in time between members of the cluster. It may have run.
    operation(Class::Timeout, &[
        (89, "NetworkTimeout"), (202, "NetworkInterfaceExceededTimeLimit"),
    ]),
    // The router knows no server for a part of the cluster: an operator has to look.
    operation(Class::NoServer, &[
        (70, "ShardNotFound"), (71, "ReplicaSetNotFound"), (149, "NoConfigPrimary"), (199, "ReplicaSetMonitorRemoved"),
    ]),
    // Another operation holds the document or its collection, and what was begun is undone.
    operation(Class::Busy, &[
        (24, "LockTimeout"), (46, "LockBusy"), (107, "LockFailed"), (112, "WriteConflict"),
        (117, "ConflictingOperationInProgress"), (208, "TooManyLocks"), (226, "AtomicityFailure"),
        (239, "SnapshotTooOld"), (246, "SnapshotUnavailable"), (267, "PreparedTransactionInProgress"),
        (363, "RetryableTransactionInProgress"), (365, "TemporarilyUnavailable"),
        (12_586, "BackgroundOperationInProgressForDatabase"), (12_587, "BackgroundOperationInProgressForNamespace"),
    ]),
    // The server takes no more operations at the moment and refuses them before they run.
    operation(Class::Busy, &[
        (402, "ResourceExhausted"), (407, "PooledConnectionAcquisitionExceededTimeLimit"),
        (433, "AdmissionQueueOverflow"), (449, "RateLimitExceeded"), (450, "PooledConnectionAcquisitionRejected"),
        (462, "IngressRequestRateLimitExceeded"),
    ]),
    // The documents' shard moves, or the router's table of shards is old: a shard refuses before it runs anything, and the
    // router has asked again in vain.
    operation(Class::Busy, &[
        (63, "OBSOLETE_StaleShardVersion"), (150, "StaleEpoch"), (200, "ChunkRangeCleanupPending"),
        (249, "StaleDbVersion"), (250, "StaleChunkHistory"), (272, "MigrationConflict"), (319, "MovePrimaryInProgress"),
        (342, "ReshardingCriticalSectionTimeout"), (343, "ShardCannotRefreshDueToLocksHeld"),
        (360, "PlacementVersionRefreshCanceled"), (379, "DatabaseMetadataRefreshCanceled"),
        (406, "MigrationBlockingOperationCoordinatorCleaningUp"), (412, "UpdatesStillPending"),
        (414, "AddOrRemoveShardInProgress"), (445, "DatabaseMetadataRefreshCanceledDueToFCVTransition"),
        (453, "InterruptedDueToReshardingCriticalSection"), (9996, "OBSOLETE_RecvStaleConfig"), (13_388, "StaleConfig"),
    ]),
    // Applied where it was sent, and not acknowledged by a majority.
    operation(Class::Unacknowledged, &[
        (64, "WriteConcernTimeout"), (75, "WriteConcernLegacyOK"), (79, "UnknownReplWriteConcern"),
        (100, "UnsatisfiableWriteConcern"),
    ]),
    // The credentials are wrong or no longer valid: an operator has to change them.
    operation(Class::Auth, &[
        (11, "UserNotFound"), (18, "AuthenticationFailed"), (214, "AuthenticationRestrictionUnmet"),
        (334, "MechanismUnavailable"), (337, "AuthenticationAbandoned"), (390, "InvalidSignature"),
        (391, "ReauthenticationRequired"), (392, "InvalidJWT"), (404, "LDAPRoleAcquisitionError"),
    ]),
    // The user may not do it, or no user may write at the moment: an operator has to allow it.
    operation(Class::Unauthorized, &[
        (13, "Unauthorized"), (371, "UserWritesBlocked"),
    ]),
    operation(Class::DiskFull, &[(14_031, "OutOfDiskSpace")]),
    // The server found its own files damaged.
    operation(Class::Corrupt, &[
        (301, "DataCorruptionDetected"), (430, "IndexKeyOrderViolation"),
    ]),

    // The document's own fault, whatever indexes its collection has.
    document("the server rejects a value in it", &[(2, "BadValue")]),
    document("the server cannot parse it", &[(9, "FailedToParse")]),
    document("it is nested too deeply", &[(15, "Overflow")]),
    document("it is not valid BSON", &[
        (22, "InvalidBSON"), (357, "InvalidBSONType"), (378, "NonConformantBSON"),
    ]),
    document("a field name starts with a dollar sign", &[(52, "DollarPrefixedFieldName")]),
    document("its _id has a type that is not allowed", &[(53, "InvalidIdField")]),
    document("a reference in it is not valid", &[(55, "InvalidDBRef")]),
    document("a field name is empty or has a dot", &[(56, "EmptyFieldName"), (57, "DottedFieldName")]),
    document("the collection's validator rejects it", &[(121, "DocumentValidationFailure")]),
    document("it is larger than 16 MiB", &[(10_334, "BSONObjectTooLarge"), (17_419, ""), (17_420, "")]),

    // The document's own fault for an index that its collection has.
    index(Indexed::Unique, "another document holds the same unique fields", &[(11_000, "DuplicateKey")]),
    index(Indexed::Any, "two of the fields are arrays", &[(171, "CannotIndexParallelArrays")]),
    index(Indexed::Any, "a field cannot be a key of it", &[(201, "CannotBuildIndexKeys")]),
    index(Indexed::Any, "a field is too long for a key", &[(17_280, "OBSOLETE_KeyTooLong")]),
    index(Indexed::Any, "a field of an object in an array has a number as its name", &[(16_746, "")]),
    index(Indexed::Hashed, "the field is an array", &[(16_766, "")]),
    index(Indexed::Text, "its language is not supported by text indexes", &[(17_262, "")]),
    index(Indexed::Text, "its language is not a string", &[(17_261, "")]),
    index(Indexed::Text, "a field before the text is an array", &[(16_675, "")]),
    index(Indexed::Text, "it has too many words", &[(16_732, ""), (16_733, "")]),
    index(Indexed::Sphere, "a location in it is not valid", &[(16_755, ""), (16_756, "")]),
    index(Indexed::Plane, "a location in it is not a pair of coordinates in the range of the index", &[
        (13_026, ""), (13_027, ""), (13_067, ""), (13_068, ""), (13_654, ""), (16_433, ""), (16_804, ""),
    ]),
    index(Indexed::Haystack, "a location in it is not a pair of coordinates", &[(16_775, ""), (16_776, "")]),

    // Retried later, and an operator is alerted. The server gave up at its own limit, or a fail point is active.
    operation(Class::Other, &[
        (50, "MaxTimeMSExpired"), (146, "ExceededMemoryLimit"), (192, "FailPointEnabled"), (262, "ExceededTimeLimit"),
        (264, "TooManyFilesOpen"), (290, "TransactionExceededLifetimeLimitSeconds"),
        (292, "QueryExceededMemoryLimitNoDiskUseAllowed"), (11_601, "Interrupted"), (46_841, "ClientMarkedKilled"),
    ]),
    // The collection or its options are not what this program makes: a view, a capped collection, a shard key, an index
    // that is missing.
    operation(Class::Other, &[
        (20, "IllegalOperation"), (26, "NamespaceNotFound"), (27, "IndexNotFound"), (48, "NamespaceExists"),
        (60, "OBSOLETE_DatabaseNotFound"), (61, "ShardKeyNotFound"), (66, "ImmutableField"), (67, "CannotCreateIndex"),
        (68, "IndexAlreadyExists"), (73, "InvalidNamespace"), (85, "IndexOptionsConflict"),
        (86, "IndexKeySpecsConflict"), (116, "DocTooLargeForCapped"), (118, "NamespaceNotSharded"),
        (136, "CappedPositionLost"), (161, "IncompatibleCollationVersion"), (162, "CollectionIsEmpty"),
        (165, "ViewDepthLimitExceeded"), (166, "CommandNotSupportedOnView"), (167, "OptionNotSupportedOnView"),
        (169, "CommandOnShardedViewNotSupportedOnMongod"), (181, "AmbiguousIndexKeyPattern"),
        (182, "InvalidViewDefinition"), (195, "ViewPipelineMaxSizeExceeded"), (197, "InvalidIndexSpecificationOption"),
        (215, "DatabaseDropPending"), (221, "IndexModified"), (227, "CannotImplicitlyCreateCollection"),
        (242, "CannotCreateCollection"), (276, "IndexBuildAborted"), (278, "UnsatisfiableCommitQuorum"),
        (283, "WouldChangeOwningShard"), (285, "IndexBuildAlreadyInProgress"), (291, "NoQueryExecutionPlans"),
        (349, "KeyPatternShorterThanBound"), (359, "CannotConvertIndexToUnique"), (361, "CollectionUUIDMismatch"),
        (366, "WouldChangeOwningShardDeletedNoDocument"), (370, "CannotDropShardKeyIndex"),
        (383, "CollectionIsEmptyLocally"), (396, "IndexInformationTooLarge"), (426, "IndexIsEmpty"),
        (10_003, "CannotGrowDocumentInCappedNamespace"), (13_297, "DatabaseDifferCase"),
        (28_769, "NamespaceCannotBeSharded"), (31_082, "SearchNotEnabled"), (4_938_500, "IndexNotFoundCachedPlan"),
    ]),
    // The server does not know the command as it was sent: it is too old, too new, or of another make.
    operation(Class::Other, &[
        (4, "NoSuchKey"), (12, "UnsupportedFormat"), (14, "TypeMismatch"), (16, "InvalidLength"), (17, "ProtocolError"),
        (40, "ConflictingUpdateOperators"), (54, "NotSingleValueField"), (59, "CommandNotFound"), (72, "InvalidOptions"),
        (76, "NoReplicationEnabled"), (78, "CommandResultSchemaViolation"), (81, "NoMatchParseContext"),
        (97, "NoProjectionFound"), (101, "OutdatedClient"), (111, "NotExactValueField"), (115, "CommandNotSupported"),
        (123, "NotAReplicaSet"), (126, "RPCProtocolNegotiationFailed"), (148, "ReadConcernMajorityNotEnabled"),
        (159, "DurationOverflow"), (160, "MaxStalenessOutOfRange"), (168, "InvalidPipelineOperator"),
        (183, "ClientMetadataMissingField"), (184, "ClientMetadataAppNameTooLarge"),
        (185, "ClientMetadataDocumentTooLarge"), (186, "ClientMetadataCannotBeMutated"),
        (187, "LinearizableReadConcernError"), (188, "IncompatibleServerVersion"),
        (198, "OBSOLETE_ReceivedOpReplyMessage"), (207, "InvalidUUID"), (224, "QueryFeatureNotAllowed"),
        (232, "MaxSubPipelineDepthExceeded"), (238, "NotImplemented"), (241, "ConversionFailure"),
        (322, "APIVersionError"), (323, "APIStrictError"), (324, "APIDeprecationError"), (347, "APIMismatchError"),
        (352, "UnsupportedOpQueryCommand"), (354, "LoadBalancerSupportMismatch"), (393, "InvalidTenantId"),
        (395, "TruncatedSerialization"), (411, "QueryRejectedBySettings"), (40_413, "IDLDuplicateField"),
        (40_414, "IDLFailedToParse"), (40_415, "IDLUnknownField"), (4_662_500, "IDLUnknownFieldPossibleMongocryptd"),
    ]),
    // The server says no more than that it failed.
    operation(Class::Other, &[
        (0, "OK"), (1, "InternalError"), (3, "OBSOLETE_DuplicateKey"), (8, "UnknownError"), (65, "MultipleErrorsOccurred"),
        (77, "OperationIncomplete"), (82, "NoProgressMade"), (83, "RemoteResultsUnavailable"),
        (84, "OBSOLETE_DuplicateKeyValue"), (96, "OperationFailed"), (125, "CommandFailed"),
        (127, "UnrecoverableRollbackError"), (151, "OperationCannotBeBatched"), (170, "TooManyMatchingDocuments"),
        (218, "UpdateOperationFailed"), (235, "InternalErrorNotSupported"), (245, "BrokenPromise"),
        (330, "SkipCommandExecution"), (331, "FailedToRunWithReplyBuilder"), (362, "FutureAlreadyRetrieved"),
    ]),
    // About sessions and transactions, which no command of this program uses.
    operation(Class::Other, &[
        (204, "TimeProofMismatch"), (205, "ClusterTimeFailsRateLimiter"), (206, "NoSuchSession"),
        (209, "StaleClusterTime"), (210, "CannotVerifyAndSignLogicalTime"), (211, "KeyNotFound"),
        (213, "DuplicateSession"), (217, "IncompleteTransactionHistory"), (225, "TransactionTooOld"),
        (228, "SessionTransferIncomplete"), (244, "NOT_YET_AVAILABLE_TransactionAborted"), (251, "NoSuchTransaction"),
        (256, "TransactionCommitted"), (257, "TransactionTooLarge"), (261, "TooManyLogicalSessions"),
        (263, "OperationNotSupportedInTransaction"), (282, "TransactionCoordinatorReachedAbortDecision"),
        (287, "TransactionCoordinatorDeadlineTaskCanceled"), (311, "TransactionCoordinatorCanceled"),
        (356, "TxnRetryCounterTooOld"), (358, "InternalTransactionNotSupported"), (369, "FLETransactionAbort"),
        (373, "InternalTransactionsExhaustiveFindHasMore"), (374, "TransactionAPIMustRetryTransaction"),
        (375, "TransactionAPIMustRetryCommit"), (388, "TransactionTooLargeForCache"),
        (413, "TransactionParticipantFailedUnyield"), (50_768, "NotARetryableWriteCommand"),
        (57_986, "RetryableInternalTransactionNotSupported"),
    ]),
    // About change streams, which only the import of a predecessor's database reads, and judges itself.
    operation(Class::Other, &[
        (222, "CloseChangeStream"), (234, "RetryChangeStream"), (260, "InvalidResumeToken"),
        (280, "ChangeStreamFatalError"), (286, "ChangeStreamHistoryLost"), (346, "ChangeStreamInvalidated"),
        (348, "ChangeStreamTopologyChange"), (351, "ChangeStreamStartAfterInvalidate"), (376, "ChangeStreamNotEnabled"),
        (401, "ResumeTenantChangeStream"),
    ]),
    // About users, roles, keys and certificates: only an administrator's commands fail so.
    operation(Class::Other, &[
        (31, "RoleNotFound"), (32, "RolesNotRelated"), (33, "PrivilegeNotFound"), (35, "UserModificationFailed"),
        (45, "UserDataInconsistent"), (49, "InvalidRoleModification"), (58, "RoleModificationFailed"),
        (69, "AuthSchemaIncompatible"), (80, "RoleDataInconsistent"), (140, "InvalidSSLConfiguration"),
        (299, "OCSPCertificateStatusRevoked"), (302, "OCSPCertificateStatusUnknown"), (344, "AuditingNotEnabled"),
        (345, "RuntimeAuditConfigurationNotEnabled"), (367, "FLECompactionPlaceholder"), (377, "FLEMaxTagLimitExceeded"),
        (386, "DuplicateKeyId"), (387, "EncounteredFLEPayloadWhileApplyingHmac"), (389, "LibmongocryptError"),
        (446, "ClusterUMCErrorWithWriteConcernError"),
    ]),
    // About replica sets among themselves, their oplog, start and upgrade.
    operation(Class::Other, &[
        (25, "RemoteValidationError"), (36, "RemoteChangeDetected"), (51, "ManualInterventionRequired"),
        (62, "OplogOperationUnsupported"), (92, "SecondaryAheadOfPrimary"), (93, "InvalidReplicaSetConfig"),
        (95, "NotSecondary"), (98, "DBPathInUse"), (102, "IncompatibleAuditMetadata"),
        (103, "NewReplicaSetConfigurationIncompatible"), (104, "NodeNotElectable"), (108, "InconsistentReplicaSetNames"),
        (110, "CannotInitializeNodeWithData"), (113, "InitialSyncFailure"), (114, "InitialSyncOplogSourceMissing"),
        (119, "InvalidSyncSource"), (120, "OplogStartMissing"), (122, "OBSOLETE_ReadAfterOptimeTimeout"),
        (124, "IncompatibleElectionProtocol"), (135, "StaleTerm"), (138, "RemoteOplogStale"), (152, "OplogOutOfOrder"),
        (155, "CannotApplyOplogWhilePrimary"), (157, "CanRepairToDowngrade"), (158, "MustUpgrade"),
        (164, "InitialSyncActive"), (212, "IncompatibleRollbackAlgorithm"), (229, "MustDowngrade"),
        (243, "IncompatibleWithUpgradedServer"), (258, "UnknownFeatureCompatibilityVersion"), (268, "CannotBackup"),
        (269, "DataModifiedByRepair"), (270, "RepairedReplicaSetNode"),
        (289, "WaitForMajorityServiceEarlierOpTimeAvailable"), (293, "InvalidSeedList"), (294, "InvalidTopologyType"),
        (295, "InvalidHeartBeatFrequency"), (296, "TopologySetNameRequired"), (298, "InvalidServerType"),
        (315, "TooStaleToSyncFromSource"), (326, "OplogQueryMinTsMissing"), (332, "CannotDowngrade"),
        (385, "ConflictingServerlessOperation"), (400, "CannotUpgrade"), (427, "DbCheckSecondaryBatchTimeout"),
        (428, "DbCheckAttemptOnClusteredCollectionIdIndex"), (429, "DbCheckInconsistentHash"),
        (432, "OfflineValidationFailedToComplete"), (50_915, "BackupCursorOpenConflictWithCheckpoint"),
    ]),
    // About the administration of shards, chunks and zones.
    operation(Class::Other, &[
        (87, "CannotSplit"), (88, "OBSOLETE_SplitFailed"), (105, "IncompatibleShardingMetadata"),
        (106, "DistributedClockSkewed"), (128, "LockNotFound"), (129, "LockStateChangeFailed"),
        (132, "OBSOLETE_ConfigServersInconsistent"), (137, "IncompatibleShardingConfigVersion"),
        (144, "IncompatibleCatalogManager"), (153, "ChunkTooBig"), (154, "InconsistentShardIdentity"),
        (163, "ZoneStillInUse"), (177, "ZoneNotFound"), (178, "RangeOverlapConflict"),
        (191, "OBSOLETE_BalancerLostDistributedLock"), (193, "OBSOLETE_NoShardingEnabled"), (194, "BalancerInterrupted"),
        (265, "OrphanedRangeCleanUpFailed"), (300, "RangeDeletionAbandonedBecauseCollectionWithUUIDDoesNotExist"),
        (307, "RangeDeletionAbandonedBecauseTaskDocumentDoesNotExist"), (313, "ResumableRangeDeleterDisabled"),
        (338, "ReshardCollectionInProgress"), (339, "NoSuchReshardCollection"), (340, "ReshardCollectionCommitted"),
        (341, "ReshardCollectionAborted"), (350, "ReshardCollectionTruncatedError"),
        (381, "ReshardingCoordinatorServiceConflictingOperationInProgress"),
        (403, "UnsupportedShardingEventNotification"), (405, "CannotCreateChunkDistribution"),
        (431, "ChunkMetadataInconsistency"), (452, "ReleaseMemoryShardError"), (13_104, "OBSOLETE_PrepareConfigsFailed"),
        (640_570, "IllegalChangeToExpectedShardVersion"), (640_571, "IllegalChangeToExpectedDatabaseVersion"),
        (1_003_141, "RemoveShardDrainingInProgress"),
    ]),
    // About aggregations, scripts, time series and searches of kinds that this program never asks for.
    operation(Class::Other, &[
        (5, "GraphContainsCycle"), (28, "PathNotViable"), (29, "NonExistentPath"), (30, "InvalidPath"),
        (34, "CannotBackfillArray"), (47, "NoMatchingDocument"), (139, "JSInterpreterFailure"),
        (142, "JSUncatchableError"), (143, "CursorInUse"), (271, "JSInterpreterFailureWithStack"),
        (275, "ExchangePassthrough"), (316, "QueryTrialRunCompleted"), (336, "TimeseriesBucketCleared"),
        (408, "CannotInsertTimeseriesBucketsWithMixedSchema"), (409, "TimeseriesBucketCompressionFailed"),
        (410, "TimeseriesBucketFrozen"), (434, "NoDistinctScansForDistinctEligibleQuery"),
        (435, "QueryStatsFailedToRecord"), (442, "RetryMultiPlanning"), (13_113, "MergeStageNoMatchingDocument"),
        (9_737_301, "UnsupportedCbrNode"), (9_751_901, "HistogramCEFailure"), (9_751_902, "SamplingCEFailure"),
        (9_751_903, "CEFailure"),
    ]),
    // About the inner parts of a server, its files and its tests: they are not for clients.
    operation(Class::Other, &[
        (10, "CannotMutateObject"), (19, "CannotReuseObject"), (21, "EmptyArrayOperation"), (23, "AlreadyInitialized"),
        (37, "FileRenameFailed"), (38, "FileNotOpen"), (39, "FileStreamFailed"), (41, "FileAlreadyOpen"),
        (42, "LogWriteFailed"), (130, "SymbolNotFound"), (147, "ZLibError"),
        (156, "OBSOLETE_NeedsDocumentMove"), (176, "FileOpenFailed"), (179, "WindowsPdhError"),
        (180, "BadPerfCounterPath"), (219, "FTDCPathNotSet"), (220, "FTDCPathAlreadySet"),
        (236, "ForTestingErrorExtraInfo"), (247, "ProducerConsumerQueueBatchTooLarge"),
        (248, "ProducerConsumerQueueEndClosed"), (252, "ReentrancyNotAllowed"), (259, "KeyedExecutorRetry"),
        (266, "FailPointSetFailed"), (273, "ProducerConsumerQueueProducerQueueDepthExceeded"),
        (274, "ProducerConsumerQueueConsumed"), (277, "AlarmAlreadyFulfilled"),
        (284, "ForTestingErrorExtraInfoWithExtraInfoInNamespace"), (297, "HierarchicalAcquisitionLevelViolation"),
        (306, "ReadThroughCacheLookupCanceled"), (309, "ExhaustCommandFinished"), (312, "OperationIsKilledAndDelisted"),
        (318, "ForTestingOptionalErrorExtraInfo"), (380, "RequestAlreadyFulfilled"), (447, "ObjectAlreadyExists"),
        (454, "ReplayClientConfigurationError"), (455, "ReplayClientNotConnected"),
        (456, "ReplayClientFailedToProcessBSON"), (457, "ReplayClientInternalError"),
        (458, "ReplayClientSessionSchedulerError"), (459, "ReplayClientSessionSimulationError"),
        (10_171_600, "ReadThroughCacheTimeMonotonicityViolation"),
    ]),
    // Of Atlas Stream Processing.
    operation(Class::Other, &[
        (415, "StreamProcessorDoesNotExist"), (416, "StreamProcessorAlreadyExists"),
        (417, "StreamProcessorWorkerShuttingDown"), (418, "StreamProcessorWorkerOutOfMemory"),
        (419, "StreamProcessorKafkaConnectionError"), (420, "StreamProcessorInvalidOptions"),
        (421, "StreamProcessorAtlasConnectionError"), (422, "StreamProcessorAtlasUnauthorizedError"),
        (423, "StreamProcessorSourceDocTooLarge"), (424, "StreamProcessorTooManyOutputTargets"),
        (425, "StreamProcessorCannotResumeFromSource"), (436, "StreamProcessorHTTPSConnectionError"),
        (440, "StreamProcessorExternalFunctionConnectionError"), (443, "StreamProcessorS3ConnectionError"),
        (444, "StreamProcessorS3Error"), (448, "StreamProcessorInvalidNamespace"),
        (451, "StreamProcessorS3TokenExpired"), (460, "StreamProcessorKinesisConnectionError"),
        (461, "StreamProcessorKinesisError"),
    ]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The numbers up to 462 that the server's list leaves out.
    const UNASSIGNED: [i32; 26] = [
        44, 99, 131, 196, 253, 254, 255, 304, 305, 320, 321, 325, 327, 328, 329, 335, 353, 364,
        368, 394, 397, 399, 437, 438, 439, 441,
    ];
    /// The numbers above 462 on the list.
    const FURTHER: [i32; 42] = [
        9_001, 9_996, 10_003, 10_058, 10_107, 10_334, 11_000, 11_600, 11_601, 11_602, 12_586,
        12_587, 13_104, 13_113, 13_297, 13_388, 13_435, 13_436, 14_031, 17_280, 28_769, 31_082,
        40_413, 40_414, 40_415, 46_841, 50_768, 50_915, 56_846, 57_986, 640_570, 640_571,
        4_662_500, 91_331, 4_938_500, 9_751_901, 9_751_902, 9_751_903, 9_737_301, 1_003_141,
        10_045_600, 10_171_600,
    ];

    #[test]
    fn every_published_code_is_decided_once() {
        let mut decided = BTreeMap::new();
        for (code, name) in GROUPS.iter().flat_map(|group| group.codes) {
            assert_eq!(
                decided.insert(*code, *name),
                None,
                "{code} is decided twice"
            );
        }
        let published = (0..=462)
            .filter(|code| !UNASSIGNED.contains(code))
            .chain(FURTHER);
        for code in published {
            let name = decided.get(&code);
            assert!(name.is_some_and(|name| !name.is_empty()), "{code}");
        }
        let named = decided.values().filter(|name| !name.is_empty()).count();
        assert_eq!(named, 463 - UNASSIGNED.len() + FURTHER.len());
    }

    #[test]
    fn the_table_is_as_reviewed() {
        let table: Vec<String> = GROUPS
            .iter()
            .map(|group| {
                let codes: Vec<String> = group
                    .codes
                    .iter()
                    .map(|(code, _)| code.to_string())
                    .collect();
                format!("{:?}: {}", group.kind, codes.join(" "))
            })
            .collect();
        insta::assert_snapshot!("codes", table.join("\n"));
    }
}
