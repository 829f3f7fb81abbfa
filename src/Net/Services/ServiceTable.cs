// ServiceTable: every method of etcd's API in one place: what is served, and the places of what is not served yet
// (null handler, answered UNIMPLEMENTED). api.md section 2 is the source of the names.
using System.Collections.Generic;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>Builds the table of one member.</summary>
internal static class ServiceTable
{
    public static RpcTable Build(MemberPort port, SlowWorker slow)
    {
        var kv = new KvService(port);
        var stream = new RangeStreamService(port);
        var watch = new WatchService(port);
        var lease = new LeaseService(port);
        var maintenance = new MaintenanceService(port, slow);
        var snapshot = new SnapshotService(port, slow);
        var cluster = new ClusterService(port);
        var health = new HealthService(port);
        var locks = new LockService(port);
        var election = new ElectionService(port);
        var methods = new List<RpcMethod>();

        void Unary(string service, string name, RpcHandler? handler = null)
            => methods.Add(new RpcMethod(service, name, RpcKind.Unary, handler));
        void Steps(string service, string name, RpcStepHandler handler)
            => methods.Add(new RpcMethod(service, name, RpcKind.Unary, null, handler));
        void Long(string service, string name, RpcHandler handler)
            => methods.Add(new RpcMethod(service, name, RpcKind.Unary, handler) { IsLong = true });
        void ServerStream(string service, string name, RpcHandler? handler = null)
            => methods.Add(new RpcMethod(service, name, RpcKind.ServerStream, handler));
        void BidiInPlace(string service, string name, RpcHandler? handler = null)
            => methods.Add(new RpcMethod(service, name, RpcKind.BidiStream, handler) { ContinuesInPlace = true });

        const string Kv = "etcdserverpb.KV";
        Steps(Kv, "Range", kv.Range);
        Steps(Kv, "Put", kv.Put);
        Steps(Kv, "DeleteRange", kv.DeleteRange);
        Steps(Kv, "Txn", kv.Txn);
        Steps(Kv, "Compact", kv.Compact);
        ServerStream(Kv, "RangeStream", stream.RangeStreamAsync);

        BidiInPlace("etcdserverpb.Watch", "Watch", watch.WatchAsync);

        const string Lease = "etcdserverpb.Lease";
        Steps(Lease, "LeaseGrant", lease.Grant);
        Steps(Lease, "LeaseRevoke", lease.Revoke);
        BidiInPlace(Lease, "LeaseKeepAlive", new LeaseKeepAlive(port).KeepAliveAsync);
        Unary(Lease, "LeaseTimeToLive", lease.TimeToLiveAsync);
        Unary(Lease, "LeaseLeases", lease.LeasesAsync);

        const string Cluster = "etcdserverpb.Cluster";
        Unary(Cluster, "MemberAdd", cluster.MemberAddAsync);
        Unary(Cluster, "MemberRemove", cluster.MemberRemoveAsync);
        Unary(Cluster, "MemberUpdate", cluster.MemberUpdateAsync);
        Unary(Cluster, "MemberList", cluster.MemberListAsync);
        Unary(Cluster, "MemberPromote", cluster.MemberPromoteAsync);

        const string Maintenance = "etcdserverpb.Maintenance";
        Steps(Maintenance, "Alarm", maintenance.Alarm);
        Unary(Maintenance, "Status", maintenance.StatusAsync);
        Unary(Maintenance, "Defragment", maintenance.DefragmentAsync);
        Unary(Maintenance, "Hash", maintenance.HashAsync);
        ServerStream(Maintenance, "Snapshot", snapshot.SnapshotAsync);
        Unary(Maintenance, "MoveLeader", maintenance.MoveLeaderAsync);
        Unary(Maintenance, "HashKV", maintenance.HashKvAsync);
        Unary(Maintenance, "Downgrade");

        const string Auth = "etcdserverpb.Auth";
        string[] auth =
        [
            "AuthEnable", "AuthDisable", "Authenticate", "UserAdd", "UserGet", "UserList", "UserDelete",
            "UserChangePassword", "UserGrantRole", "UserRevokeRole", "RoleAdd", "RoleGet", "RoleList", "RoleDelete",
            "RoleGrantPermission", "RoleRevokePermission", "AuthStatus",
        ];
        foreach (string name in auth)
        {
            Unary(Auth, name);
        }

        const string Election = "v3electionpb.Election";
        Long(Election, "Campaign", election.CampaignAsync);
        Long(Election, "Proclaim", election.ProclaimAsync);
        Long(Election, "Leader", election.LeaderAsync);
        ServerStream(Election, "Observe", election.ObserveAsync);
        Long(Election, "Resign", election.ResignAsync);

        const string Lock = "v3lockpb.Lock";
        Long(Lock, "Lock", locks.LockAsync);
        Long(Lock, "Unlock", locks.UnlockAsync);

        const string Health = "grpc.health.v1.Health";
        Unary(Health, "Check", health.CheckAsync);
        ServerStream(Health, "Watch", HealthService.WatchAsync);
        Unary(Health, "List", health.ListAsync);
        return new RpcTable(methods);
    }
}
